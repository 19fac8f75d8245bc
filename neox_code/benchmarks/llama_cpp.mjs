// Speed of llama.cpp through node-llama-cpp. usage: node llama_cpp.mjs FOLDER MODEL ROWS TOKENS THREADS
// FOLDER has node_modules/ with node-llama-cpp and a binary package; the context holds ROWS texts of TOKENS tokens together.
// Reads a request {prompts, steps} from each line of standard input: token ids of each row, and a number of steps. Answers with a
// line {first, step}: seconds until every row has its first token, and seconds of a step, which gives every row another token.
import path from "node:path";
import readline from "node:readline";
import {pathToFileURL} from "node:url";

const [folder, file, rows, tokens, cores] = process.argv.slice(2);
const threads = Number(cores);
const library = path.join(path.resolve(folder), "node_modules/node-llama-cpp/dist/index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(library));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
const context = await model.createContext({contextSize: Number(tokens), sequences: Number(rows), batchSize: 512, threads});
const sequences = Array.from({length: Number(rows)}, () => context.getSequence());
console.log("{}");
for await (const line of readline.createInterface({input: process.stdin})) {
    const {prompts, steps} = JSON.parse(line);
    await Promise.all(sequences.map((sequence) => sequence.clearHistory()));
    const begin = performance.now();
    await Promise.all(prompts.map((ids, row) => sequences[row].evaluateWithoutGeneratingNewTokens(ids.slice(0, -1))));
    const options = {temperature: 0, yieldEogToken: true};
    const generators = prompts.map((ids, row) => sequences[row].evaluate(ids.slice(-1), options));
    await Promise.all(generators.map((generator) => generator.next()));
    const first = performance.now();
    for (let step = 0; step < steps; step++) await Promise.all(generators.map((generator) => generator.next()));
    const end = performance.now();
    await Promise.all(generators.map((generator) => generator.return()));
    console.log(JSON.stringify({first: (first - begin) / 1000, step: (end - first) / 1000 / steps}));
}
process.exit(0);
