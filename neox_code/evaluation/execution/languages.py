"""The languages whose programs can be run, besides those of language files: the file, the compiler, the command, the end.

A program passes when it reaches its end, not when it exits with status 0: a completion could call exit(0) before its tests.
Therefore another file, the harness, runs the program and then prints a random word, which it received as its last argument. Where
a program ends by its tests' own exit status, `Program.script` accepts that status.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

C_HARNESS = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int __real_main(int, char **, char **);
int __wrap_main(int count, char **arguments, char **environment) {
    char secret[64] = {0};
    strncpy(secret, arguments[count - 1], 63);
    memset(arguments[count - 1], 0, strlen(arguments[count - 1]));
    arguments[count - 1] = 0;
    int status = __real_main(count - 1, arguments, environment);
    fflush(stdout);
    if (status == 0 && write(1, secret, strlen(secret)) < 0) return 1;
    return status;
}
"""
JAVA_HARNESS = r"""
import java.io.*;
public class Harness {
    public static void main(String[] arguments) throws Exception {
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
const { writeSync } = require("fs"), secret = process.argv.pop();
let loaded = false;
process.on("beforeExit", () => { if (loaded) { loaded = false; writeSync(1, secret); } });
require("./program.js");
loaded = true;
"""
RUBY_HARNESS = 'secret, output = ARGV.pop, IO.for_fd(1)\nload "./program.rb"\n$stdout.flush\noutput.syswrite(secret)\n'
PHP_HARNESS = '<?php require "program.php"; while (ob_get_level()) ob_end_flush(); fwrite(STDOUT, end($_SERVER["argv"]));'
GO_HARNESS = r"""package main
import "os"
func main() {
    secret := os.Args[len(os.Args)-1]
    os.Args = os.Args[:len(os.Args)-1]
    programMain()
    os.Stdout.WriteString(secret)
}
"""


@dataclass(frozen=True)
class Language:
    file: str
    """Name of the program's file; empty if the program is a repository's tests."""
    programs: tuple[str, ...] = ()
    """Executables that must be installed."""
    compile: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    """Commands; the first part is among `programs`, or ./program."""
    harness: tuple[str, str] | None = None
    """Name and text of the harness; None: the exit status counts."""
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

LANGUAGES: dict[str, Language] = {
    "python": Language("program.py"),
    "javascript": Language("program.js", ("node",), (), ("node", "harness.js"), ("harness.js", NODE_HARNESS), reserves_memory=True),
    "typescript": Language(
        "program.ts",
        ("tsc", "node"),
        ("tsc", "--target", "es2022", "--module", "commonjs", "--skipLibCheck", "program.ts"),
        ("node", "harness.js"),
        ("harness.js", NODE_HARNESS),
        reserves_memory=True,
    ),
    "java": Language(
        "Main.java",
        ("javac", "java"),
        ("javac", "-nowarn", "-d", ".", "Harness.java", "Main.java"),
        ("java", *JVM, "-ea", "-cp", ".", "Harness", "Main"),
        ("Harness.java", JAVA_HARNESS),
        reserves_memory=True,
    ),
    "c": Language("program.c", ("gcc",), GCC, ("./program",), ("harness.c", C_HARNESS)),
    "cpp": Language(
        "program.cpp", ("g++",), GXX, ("./program",), ("harness.c", C_HARNESS), variants=((SSL, {"compile": (*GXX, "-lcrypto")}),)
    ),
    "go": Language(
        "program.go",
        ("go",),
        ("go", "build", "-o", "program", "program.go", "harness.go"),
        ("./program",),
        ("harness.go", GO_HARNESS),
        {"GO111MODULE": "off", "CGO_ENABLED": "0", "GOPATH": "/usr/share/gocode", "GOFLAGS": "-p=2"},
        reserves_memory=True,
        prepare=lambda source: re.sub(r"(?m)^func main\(\)", "func programMain()", source),
        variants=(
            (
                r"(?m)^func Test\w*\(",  # the flag makes os.Exit(0) in a test fail
                {
                    "file": "program_test.go",
                    "compile": ("go", "test", "-vet=off", "-c", "-o", "program", "program_test.go"),
                    "run": ("./program", "-test.paniconexit0"),
                    "harness": None,
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
        ("./program", "-test.paniconexit0", "-test.v"),
        environment={"CGO_ENABLED": "0", "GOPROXY": "off", "GOFLAGS": "-p=2 -mod=mod", "GONOSUMDB": "*"},
        reserves_memory=True,
    ),
    "cargo test": Language(
        "",
        ("cargo", "rustc", "gcc"),
        ("cargo", "test", "--offline", "--tests", "--no-run"),
        ("cargo", "test", "--offline", "--tests", "--no-fail-fast"),
        environment={"RUSTFLAGS": "--cap-lints=allow -Clink-arg=-fuse-ld=bfd"},
        reserves_memory=True,
        processes=64,
        executables="target/debug/deps/*",
    ),
    "node test": Language("", ("node",), (), ("node", "--test", "--test-reporter=tap"), reserves_memory=True, processes=64),
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
