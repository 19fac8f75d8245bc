"""The languages whose programs can be run, besides those of language files: the file, the compiler, the command, the end.

A program passes when it reaches its end, not when it exits with status 0 or prints that its tests passed: a completion could do
both before its tests. Therefore another file, the harness, takes a secret before the program starts, from an environment variable
that it removes or from its last argument, and writes it after the program's end. It writes both halves of the secret then, or the
first half at the start: where tests are several processes, all that start must end. What this cannot exclude is a program that
finds the secret in its own memory, which C allows, or in its arguments, which Godot and R do not hide.
"""

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "NEOX_CODE_END"
"""Environment variable from which a harness takes the secret."""
RANDOM = "NEOX_CODE_RANDOM"
"""Stands in a harness for a part of a name that no program can contain."""

C_HARNESS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int __real_main(int, char **, char **);
static char secret[33];
__attribute__((constructor(101))) static void take_secret(void) {
    char *value = getenv("NEOX_CODE_END");
    if (value == 0 || strlen(value) != 32) return;
    memcpy(secret, value, 32);
    memset(value, 0, 32);
    unsetenv("NEOX_CODE_END");
    if (write(1, secret, 16) < 0) secret[0] = 0;
}
int __wrap_main(int count, char **arguments, char **environment) {
    int status = __real_main(count, arguments, environment);
    fflush(stdout);
    if (status == 0 && secret[0] && write(1, secret + 16, 16) < 0) return 1;
    return status;
}
"""
JAVA_HARNESS = r"""
import java.io.*;
public class Harness {
    public static void main(String[] arguments) throws Exception {
        System.clearProperty("sun.java.command");
        try {
            var main = Class.forName(arguments[0]).getDeclaredMethod("main", String[].class);
            main.setAccessible(true);
            main.invoke(null, (Object) new String[0]);
        } catch (java.lang.reflect.InvocationTargetException error) {
            error.getCause().printStackTrace();
            System.exit(1);
        }
        new FileOutputStream(FileDescriptor.out).write(arguments[1].getBytes());
    }
}
"""
NODE_HARNESS = r"""
const { writeSync } = require("fs"), secret = process.env.NEOX_CODE_END, StackError = Error;
let state = "running";
const isCalledByNode = () => {
    StackError.stackTraceLimit = 10;
    StackError.prepareStackTrace = undefined;
    return new StackError().stack.split("\n").slice(3).every((line) => line.includes("(node:events:"));
};
if (secret && !process.execArgv.includes("--test")) {
    delete process.env.NEOX_CODE_END;
    writeSync(1, secret.slice(0, 16));
    for (const name of ["exit", "reallyExit", "kill", "abort"]) {
        const own = process[name];
        process[name] = (...values) => { state = "stopped"; return own.apply(process, values); };
    }
    const end = () => { if (state === "running" && isCalledByNode()) state = "ended"; };
    process.on("beforeExit", end);
    process.on("uncaughtExceptionMonitor", () => { if (state === "running") state = "ended"; });
    process.on("exit", () => { if (state === "ended" && isCalledByNode()) writeSync(1, secret.slice(16)); });
}
"""
"""Each file of tests is a process. One that ends by an error ends: its status reports the error."""
RUBY_HARNESS = r"""
-> do
  secret, output = ENV.delete("NEOX_CODE_END"), IO.for_fd(1)
  load "./program.rb"
  if defined?(Test::Unit::AutoRunner)
    Test::Unit::AutoRunner.need_auto_run = false
    Test::Unit::AutoRunner.run or raise "a test fails"
  end
  $stdout.flush
  output.syswrite(secret)
end.call
"""
PHP_HARNESS = r"""<?php
$end_NEOX_CODE_RANDOM = (function () {
    $secret = getenv("NEOX_CODE_END");
    putenv("NEOX_CODE_END");
    unset($_SERVER["NEOX_CODE_END"], $_ENV["NEOX_CODE_END"]);
    yield;
    if ((debug_backtrace()[1]["file"] ?? "") !== __FILE__) return;
    while (ob_get_level()) ob_end_flush();
    fwrite(STDOUT, $secret);
})();
$end_NEOX_CODE_RANDOM->current();
require "program.php";
$end_NEOX_CODE_RANDOM->next();
"""
GO_TAKE = r"""
var end_NEOX_CODE_RANDOM = func() func() {
    secret := os.Getenv("NEOX_CODE_END")
    os.Unsetenv("NEOX_CODE_END")
    output := os.Stdout
    return func() { output.WriteString(secret) }
}()
"""
"""It stands in the first file of a package, whose variables are set first."""
GO_HARNESS = f"""package main
import "os"
{GO_TAKE}
func main() {{
    programMain()
    end_NEOX_CODE_RANDOM()
}}
"""
GO_TEST_HARNESS = f"""package main
import (
    "os"
    "testing"
)
{GO_TAKE}
func TestMain(tests *testing.M) {{
    os.Args = os.Args[:1]
    status := tests.Run()
    if status == 0 {{
        end_NEOX_CODE_RANDOM()
    }}
    os.Exit(status)
}}
"""


@dataclass(frozen=True)
class Language:
    file: str
    """Name of the program's file; empty if the program is a repository's tests."""
    programs: tuple[str, ...] = ()
    """Executables that must be installed."""
    compile: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    """Commands; the first part is among `programs`, or ./program. {root} stands for the private folder."""
    harness: tuple[str, str] | None = None
    """Name and text of the harness; None for Python, whose programs the worker itself runs."""
    takes_argument: bool = False
    """True: the harness takes the secret from its last argument. False: from an environment variable, which it removes."""
    environment: Mapping[str, str] = field(default_factory=dict)
    reserves_memory: bool = False
    processes: int = 1
    executables: str = "program"
    """Pattern of the files that the compiler makes executable."""
    prepare: Callable[[str], str] | None = None
    """Edits the program before it is written."""
    variants: tuple[tuple[str, Mapping[str, object]], ...] = ()
    """(regular expression, changed fields) for programs that contain it, for example tests of the language's own framework."""


LINKED = ("-Wl,--wrap=main",)
JVM = ("-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xss64m")
SSL = r"#include\s*<openssl/"
GCC = ("gcc", "-w", "-o", "program", "program.c", "harness.c", *LINKED, "-lm")
GXX = ("g++", "-w", "-std=c++17", "-o", "program", "program.cpp", "-x", "c", "harness.c", "-x", "none", *LINKED)  # fmt: skip
RUSTC = ("rustc", "--edition=2021", "-Awarnings", "-Ccodegen-units=1", "-o", "program", "program.rs", "-Clink-arg=harness.c",
         "-Clink-arg=-Wl,--wrap=main", "-Clink-arg=-fuse-ld=bfd")  # fmt: skip
CARGO_TEST = ("test", "--offline", "--tests", f"--target={platform.machine()}-unknown-linux-gnu")
"""With a target, build scripts and macros are linked without the harness."""

LANGUAGES: dict[str, Language] = {
    "python": Language("program.py"),
    "javascript": Language(
        "program.js",
        ("node",),
        (),
        ("node", "--require={root}/harness.js", "program.js"),
        ("harness.js", NODE_HARNESS),
        reserves_memory=True,
    ),
    "typescript": Language(
        "program.ts",
        ("tsc", "node"),
        ("tsc", "--target", "es2022", "--module", "commonjs", "--skipLibCheck", "program.ts"),
        ("node", "--require={root}/harness.js", "program.js"),
        ("harness.js", NODE_HARNESS),
        reserves_memory=True,
    ),
    "java": Language(
        "Main.java",
        ("javac", "java"),
        ("javac", "-nowarn", "-d", ".", "Harness.java", "Main.java"),
        ("java", *JVM, "-ea", "-cp", ".", "Harness", "Main"),
        ("Harness.java", JAVA_HARNESS),
        takes_argument=True,
        reserves_memory=True,
    ),
    "c": Language("program.c", ("gcc",), GCC, ("./program",), ("harness.c", C_HARNESS)),
    "cpp": Language(
        "program.cpp", ("g++",), GXX, ("./program",), ("harness.c", C_HARNESS), variants=((SSL, {"compile": (*GXX, "-lcrypto")}),)
    ),
    "go": Language(
        "program.go",
        ("go",),
        ("go", "build", "-o", "program", "harness.go", "program.go"),
        ("./program",),
        ("harness.go", GO_HARNESS),
        environment={"GO111MODULE": "off", "CGO_ENABLED": "0", "GOPATH": "/usr/share/gocode", "GOFLAGS": "-p=2"},
        reserves_memory=True,
        prepare=lambda source: re.sub(r"(?m)^func main\(\)", "func programMain()", source),
        variants=(
            (
                r"(?m)^func Test\w*\(",
                {
                    "file": "program_test.go",
                    "compile": ("go", "test", "-vet=off", "-c", "-o", "program", "harness_test.go", "program_test.go"),
                    "harness": ("harness_test.go", GO_TEST_HARNESS),
                    "prepare": None,
                },
            ),
        ),
    ),
    "rust": Language(
        "program.rs",
        ("rustc", "gcc"),
        RUSTC,
        ("./program",),
        ("harness.c", C_HARNESS),
        variants=((r"#\[test\]", {"compile": (*RUSTC, "--test")}),),
    ),
    "ruby": Language("program.rb", ("ruby",), (), ("ruby", "harness.rb"), ("harness.rb", RUBY_HARNESS)),
    "php": Language(
        "program.php",
        ("php",),
        (),
        ("php", "-d", "zend.assertions=1", "-d", "assert.exception=1", "-d", "display_errors=stderr", "harness.php"),
        ("harness.php", PHP_HARNESS),
        prepare=lambda source: source if source.lstrip().startswith("<?") else "<?php\n" + source,
    ),
    "go test": Language(
        "",
        ("go",),
        ("go", "test", "-vet=off", "-c", "-o", "program", "."),
        ("./program",),
        ("", ""),  # written by repository.py, since it is a file of the tests' package
        environment={"CGO_ENABLED": "0", "GOPROXY": "off", "GOFLAGS": "-p=2 -mod=mod", "GONOSUMDB": "*"},
        reserves_memory=True,
    ),
    "cargo test": Language(
        "",
        ("cargo", "rustc", "gcc"),
        ("cargo", *CARGO_TEST, "--no-run"),
        ("cargo", *CARGO_TEST, "--no-fail-fast"),
        ("harness.c", C_HARNESS),
        environment={
            "RUSTFLAGS": "--cap-lints=allow -Clink-arg=-fuse-ld=bfd -Clink-arg={root}/harness.c -Clink-arg=-Wl,--wrap=main"
        },
        reserves_memory=True,
        processes=64,
        executables="target/*/debug/deps/*",
    ),
    "node test": Language(
        "",
        ("node",),
        (),
        ("node", "--require={root}/harness.js", "--test", "--test-reporter=tap"),
        ("harness.js", NODE_HARNESS),
        reserves_memory=True,
        processes=64,
    ),
}
OTHER_NAMES = {"lua": ("lua", "lua5.4", "lua5.3"), "tsc": ("tsc",)}
"""Program -> the names under which distributions install it."""


def find_program(name: str) -> str | None:
    """Return the path of an installed program; None if it is missing."""
    path = next((found for other in OTHER_NAMES.get(name, (name,)) if (found := shutil.which(other))), None)
    if path and Path(path).resolve().name == "rustup":  # its rustc reads files in the home folder to find the compiler
        root = subprocess.run([Path(path).with_name("rustc"), "--print", "sysroot"], capture_output=True, text=True).stdout.strip()
        path = f"{root}/bin/{name}" if root else None
    return path


def list_readable_folders(program: str) -> list[str]:
    """Return the folders that an installed program needs to read: those of its path, of the path's links, and their prefixes."""
    folders, path = [], Path(program)
    for place in (path, path.resolve()):
        folders.append(str(place.parent))
        if place.parent.name == "bin" and place.parent.parent not in (Path.home(), Path.home() / ".local", Path("/")):
            folders.append(str(place.parent.parent))
    return folders
