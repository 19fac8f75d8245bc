// llama.cpp through node-llama-cpp. usage: node llama_cpp.mjs FOLDER request.json answer.json
// FOLDER has node_modules/ with node-llama-cpp and one binary package.
// request {model, texts, prompts, count, scored}: texts to tokenize, token ids to continue greedily by `count`, token ids to score.
// answer {tokens, decoded, continued, nats}: ids of each text and their text, ids of each continuation, -log p of each token after
// the first.
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, requestFile, answerFile] = process.argv.slice(2);
const library = path.join(path.resolve(folder), "node_modules/node-llama-cpp/dist/index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(library));
const request = JSON.parse(fs.readFileSync(requestFile, "utf8"));
const llama = await getLlama({gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error, maxThreads: 1});
const model = await llama.loadModel({modelPath: request.model, gpuLayers: 0});
const answer = {tokens: request.texts.map((text) => model.tokenize(text, false)), continued: [], nats: []};
answer.decoded = answer.tokens.map((ids) => model.detokenize(ids, true));
answer.special = {eos: model.tokens.eos, eot: model.tokens.eot, addsBos: model.tokens.shouldPrependBosToken,
    infill: [model.tokens.infill.prefix, model.tokens.infill.suffix, model.tokens.infill.middle]};
const context = await model.createContext({contextSize: model.trainContextSize, batchSize: 512, threads: 1, flashAttention: false});
const sequence = context.getSequence();
for (const ids of request.prompts) {
    await sequence.clearHistory();
    const found = [];
    for await (const token of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) {
        found.push(token);
        if (found.length >= request.count || token === model.tokens.eos) break;
    }
    answer.continued.push(found);
}
for (const ids of request.scored) {
    await sequence.clearHistory();
    const results = await sequence.controlledEvaluate(
        ids.slice(0, -1).map((token) => [token, {generateNext: {probabilities: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0}}}])
    );
    answer.nats.push(results.map((result, index) => -Math.log(result.next.probabilities.get(ids[index + 1]) ?? 0)));
}
fs.writeFileSync(answerFile, JSON.stringify(answer));
process.exit(0);
