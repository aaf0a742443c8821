"""Small mistakes put into a kernel's text one at a time, to see whether the tests notice each.

>>> found = survivors(mutants(text), check, original=text)
>>> assert not found.survived, found

`check(text)` runs the tests with that text as the kernel's source, and raises if they notice something.
"""

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from simulator import compiler

#: Of mutants: most of the time goes into their compilation, and each runs but once.
OPTIMIZATION = "-O0"


class Mutant(NamedTuple):
    description: str
    text: str


# -- Making them ------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[a-zA-Z]*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign><<=|>>=|\+\+|--|->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\s\w])
      | (?P<space>\s+)""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_TYPES = {
    "auto", "bool", "char", "const", "double", "float", "int", "long", "short", "signed", "size_t", "unsigned",
    "void", "REAL", "SOURCE",
    *(f"{name}{lanes}" for name in ("float", "double", "int", "uchar") for lanes in (2, 3, 4)),
}  # fmt: skip
_KEYWORDS = {"return", "case", "else", "do", "throw"}
_COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
_ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "%": "/", "<<": ">>", ">>": "<<", "&&": "||", "||": "&&"}
_ASSIGNMENTS = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", ">>=": "<<=", "<<=": ">>="}
_BARRIERS = ("__syncthreads", "__syncwarp")
_OPEN, _CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
_PRECEDENCE = {"*": 3, "/": 3, "%": 3, "+": 2, "-": 2}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def mutants(text):
    """Return the mutants of a kernel's text, in the order of their lines."""
    return _Mutator(text).mutants()


class _Mutator:
    def __init__(self, text):
        self.text = text
        tokens = [_Token(m.lastgroup, m[0], m.start(), m.end()) for m in _TOKEN.finditer(text)]
        self.tokens = [token for token in tokens if token.kind not in ("comment", "directive", "space")]
        self.partner = self._brackets()
        self.types = _TYPES | set(re.findall(r"\b(?:typename|class|struct|using)\s+(\w+)", text))
        self.angles = self._angles()
        self.found = {}

    def mutants(self):
        for i, token in enumerate(self.tokens):
            if token.kind == "number":
                self._constant(i)
            elif token.kind == "name":
                self._name(i)
            elif token.kind == "sign" and i not in self.angles and not self._is_array_size(i):
                self._sign(i)
        return [mutant for _, mutant in sorted(self.found.values(), key=lambda found: found[0])]

    # -- Reading ----------------------------------------------------------------------------------------------

    def _brackets(self):
        partner, stack = {}, []
        for i, token in enumerate(self.tokens):
            if token.kind == "sign" and token.text in _OPEN:
                stack.append(i)
            elif token.kind == "sign" and token.text in _CLOSE:
                partner[i] = stack.pop()
                partner[partner[i]] = i
        return partner

    def _angles(self):
        """The brackets of casts and templates, which compare nothing."""
        angles = set()
        for i, token in enumerate(self.tokens[:-1]):
            if re.fullmatch(r"template|\w+_cast", token.text) and self.tokens[i + 1].text == "<":
                end = next(j for j in range(i + 1, len(self.tokens)) if self.tokens[j].text == ">")
                angles.update(range(i + 1, end + 1))
        return angles

    def _at(self, i):
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def _is_binary(self, i):
        """Whether the sign at i stands between two operands; not a pointer's, nor a sign of one number."""
        before, text = self.tokens[i - 1], self._at(i)
        if text in "*&" and (before.text in self.types or self._at(i + 1) in ("__restrict__", "const", ")", ">")):
            return False
        if before.text == ")":  # a cast's operand begins with its own sign
            inside = self.tokens[self.partner[i - 1] + 1 : i - 1]
            if inside and all(token.text in self.types or token.text == "*" for token in inside):
                return False
        return before.text in (")", "]") or (
            before.kind in ("name", "number") and before.text not in _KEYWORDS and before.text not in self.types
        )

    def _left(self, i, power):
        """Where the operand begins whose last token is at i - 1, of operators that bind at least as `power`."""
        j = i - 1
        while True:
            if j in self.partner and self._at(j) in _CLOSE:
                j = self.partner[j]
            before = self._at(j - 1)
            joined = before in (".", "->") or self._at(j) in (".", "->") or (
                self._at(j) in "([" and (self.tokens[j - 1].kind == "name" or before in (")", "]"))
                and before not in _KEYWORDS
            )  # fmt: skip
            if self._at(j - 1) == ")" and not joined:  # a cast
                joined = self.tokens[j - 2].text in self.types or self._at(j - 2) == "*"
            if joined:
                j -= 1
                continue
            sign = self.tokens[j - 1]
            if sign.kind == "sign" and _PRECEDENCE.get(sign.text, 0) >= power and self._is_binary(j - 1):
                j -= 2
                continue
            return j

    def _right(self, i, power):
        """Where the operand ends that begins at i, of operators that bind more strongly than `power`."""
        j = i
        while j < len(self.tokens):
            token = self.tokens[j]
            if token.text in _OPEN and token.kind == "sign":
                j = self.partner[j] + 1
            elif token.kind in ("name", "number") or token.text in (".", "->") or (j == i and token.text in "+-*&!~"):
                j += 1
            elif _PRECEDENCE.get(token.text, 0) > power and self._is_binary(j):
                j += 1
                if self._at(j) in ("-", "+", "*"):
                    j += 1
            else:
                break
        return j

    def _enclosing(self, i):
        """The innermost bracket that is open at token i, or -1."""
        j = i - 1
        while j >= 0:
            if self.tokens[j].kind == "sign" and self._at(j) in _CLOSE:
                j = self.partner[j]
            elif self.tokens[j].kind == "sign" and self._at(j) in _OPEN:
                return j
            j -= 1
        return -1

    def _in_loop_header(self, i):
        bracket = self._enclosing(i)
        return self._at(bracket) == "(" and self._at(bracket - 1) in ("for", "while")

    def _is_array_size(self, i):
        """Whether token i is within the size of an array that is declared here."""
        bracket = self._enclosing(i)
        while self._at(bracket) == "[" and self._at(bracket - 1) == "]":
            bracket = self.partner[bracket - 1]
        return self._at(bracket) == "[" and self._at(bracket - 2) in self.types

    # -- Writing ----------------------------------------------------------------------------------------------

    def _add(self, start, end, replacement):
        """Put `replacement` in place of text[start:end]."""
        text = self.text[:start] + replacement + self.text[end:]
        line = self.text.count("\n", 0, start)
        before = self.text.splitlines()[line].strip()
        after = text.splitlines()[line].strip()
        last = self.text.count("\n", 0, end)
        if last != line:
            after += " ..."
        self.found.setdefault(text, ((line, start), Mutant(f"line {line + 1}: `{before}` -> `{after}`", text)))

    def _replace(self, i, replacement):
        self._add(self.tokens[i].start, self.tokens[i].end, replacement)

    def _constant(self, i):
        text = self._at(i)
        bracket = self._enclosing(i)
        if text.lower().startswith("0x") or self._is_array_size(i) or self._at(bracket - 1) == "__launch_bounds__":
            return
        number, suffix = re.fullmatch(r"(.*?)([a-zA-Z]*)", text).groups()
        if "." in number or "e" in number.lower() or suffix.lower() == "f":
            value = float(number)
            self._replace(i, f"{value / 2 if value else 1.0!r}{suffix}")
        else:
            value = int(number)
            self._replace(i, f"{value + 1 if value <= 2 else value // 2}{suffix}")

    def _name(self, i):
        text = self._at(i)
        token = self.tokens[i]
        if text in _BARRIERS and self._at(i + 1) == "(" and self._at(self.partner[i + 1] + 1) == ";":
            self._add(token.start, self.tokens[self.partner[i + 1]].end, "")
        elif text.startswith("__shfl") and self._at(i + 1) == "(":  # each lane keeps its own value
            end = self.partner[i + 1]
            commas = [j for j in range(i + 2, end) if self._at(j) == "," and self._enclosing(j) == i + 1]
            value = self.text[self.tokens[commas[0]].end : self.tokens[commas[1]].start].strip()
            self._add(token.start, self.tokens[end].end, f"({value})")
        elif text in ("threadIdx", "blockIdx", "blockDim", "gridDim") and re.search(r"(?:Idx|Dim)\.y\b", self.text):
            self._replace(i + 2, {"x": "y", "y": "x", "z": "y"}[self._at(i + 2)])

    def _sign(self, i):
        text = self._at(i)
        if text in _COMPARISONS:
            real = re.compile(r".*[.].*|\d+[eE].*|\d+[fF]")
            if not any(self.tokens[j].kind == "number" and real.fullmatch(self._at(j)) for j in (i - 1, i + 1)):
                self._replace(i, _COMPARISONS[text])
        elif text in _ASSIGNMENTS:
            self._replace(i, _ASSIGNMENTS[text])
            if not self._in_loop_header(i):
                self._replace(i, "=")
        elif text in ("++", "--") and not self._in_loop_header(i):
            self._replace(i, "--" if text == "++" else "++")
        elif text == "[" and not self._is_array_size(i + 1) and self._at(i + 1) != "]":
            start, end = self.tokens[i].end, self.tokens[self.partner[i]].start
            for change in ("+ 1", "- 1"):
                self._add(start, end, f"({self.text[start:end]}) {change}")
        elif text in _ARITHMETIC and i and self._is_binary(i):
            self._replace(i, _ARITHMETIC[text])
            power = _PRECEDENCE.get(text)
            if power is not None:
                left, right = self._left(i, power), self._right(i + 1, power)
                self._add(self.tokens[i - 1].end, self.tokens[right - 1].end, "")
                if text in "+*":
                    self._add(self.tokens[left].start, self.tokens[i + 1].start, "")


# -- Trying them ------------------------------------------------------------------------------------------------


@dataclass
class Verdicts:
    """What became of the mutants: `survived` is the list that should be empty."""

    survived: list = field(default_factory=list)
    killed: list = field(default_factory=list)
    timed_out: list = field(default_factory=list)  # noticed too: they never end
    not_compiled: list = field(default_factory=list)  # neither way: no such kernel can be

    def __str__(self):
        counts = ", ".join(f"{len(mutants)} {name.replace('_', ' ')}" for name, mutants in vars(self).items())
        return "\n  ".join([counts, *(mutant.description for mutant in self.survived)])


def survivors(mutants, check, *, original=None, limit=20.0, jobs=None):
    """Run `check` on each mutant's text in a process of its own; return the verdicts.

    A mutant survives if `check` returns. It is killed by an exception or a crash, and also if it never ends: if it
    takes more than `limit` seconds and than five times as long as `original`, or more than half a second of processor
    time of its own (without the compiler's) and than ten times as much. The original, if given, must pass first: else
    a check that fails at everything would look perfect.
    """
    compiler.header(OPTIMIZATION), compiler.runtime()  # once for all of them
    with tempfile.TemporaryDirectory(prefix="gpunet-mutants-") as folder:
        most = None
        if original is not None:
            started = time.monotonic()
            [(verdict, report, used)] = _judge_all([original], check, 20 * limit, None, 1, folder)
            if verdict != "survived":
                raise AssertionError(f"the check does not pass the original ({verdict}):\n{report}")
            limit = max(limit, 5 * (time.monotonic() - started))  # on a busy machine everything takes longer
            most = max(0.5, 10 * used)
        verdicts = Verdicts()
        mutants = list(mutants)
        judged = _judge_all(
            [mutant.text for mutant in mutants], check, limit, most, jobs or os.cpu_count() or 1, folder
        )
        for mutant, (verdict, report, _) in zip(mutants, judged, strict=True):
            if verdict == "undecided":
                raise RuntimeError(f"the check came to no result for {mutant.description}:\n{report}")
            getattr(verdicts, verdict).append(mutant)
    return verdicts


def _judge_all(texts, check, limit, most, jobs, folder):
    """Return a (verdict, report, seconds of processor time) for each text, `jobs` of them at a time."""
    results, waiting, running = {}, list(enumerate(texts))[::-1], {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                i, text = waiting.pop()
                running[i] = (*_start(check, text, most, folder), time.monotonic() + limit)
            multiprocessing.connection.wait([pipe for _, pipe, _ in running.values()], timeout=0.1)
            for i, (pid, pipe, deadline) in list(running.items()):
                if pipe.poll() or time.monotonic() > deadline:
                    del running[i]
                    results[i] = _finish(pid, pipe)
    finally:
        for pid, pipe, _ in running.values():
            _finish(pid, pipe)
    return [results[i] for i in range(len(texts))]


def _start(check, text, most, folder):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():  # of threads of the parent: the child starts none before it is done with NumPy
        warnings.simplefilter("ignore", DeprecationWarning)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
    if pid:
        theirs.close()
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid, ours
    try:
        gc.freeze()  # what the parent made is not looked through, which would copy all of it
        ours.close()
        os.setpgid(0, 0)  # with its compilers, to be ended together
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if most is not None:
            signal.setitimer(signal.ITIMER_PROF, most)  # whose signal ends the process, in a kernel too
        compiler.OPTIMIZATION = OPTIMIZATION
        compiler.WARNINGS = ("-w",)  # a dropped term leaves variables unused; only errors stop a device
        compiler.cache_folder = lambda: Path(folder)
        before = time.process_time()
        verdict = _judge(check, text)
        theirs.send_bytes(pickle.dumps((*verdict, time.process_time() - before)))
    finally:
        os._exit(0)


def _judge(check, text):
    try:
        check(text)
    except Exception as error:
        report, seen = traceback.format_exc(), set()
        while error is not None and id(error) not in seen:
            if isinstance(error, compiler.CompileError | compiler.NotFoundError):
                return "not_compiled", report
            seen.add(id(error))
            error = error.__cause__ or error.__context__
        return "killed", report
    except pytest.fail.Exception:
        return "killed", traceback.format_exc()
    except BaseException:  # a skip, an exit: nothing was tried
        return "undecided", traceback.format_exc()
    return "survived", ""


def _finish(pid, pipe):
    """End a child and everything it started; return its verdict."""
    ended, status = False, 0
    try:
        if pipe.poll():
            ended = True
            return pickle.loads(pipe.recv_bytes())  # noqa: S301 - our own child's
    except EOFError:  # it crashed
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        pipe.close()
    if ended and os.waitstatus_to_exitcode(status) != -signal.SIGPROF:
        return "killed", "the process ended", 0.0
    return "timed_out", "it took too long", 0.0
