"""Reading and changing a worklist that several people share; opening a case, saving it, closing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import filelock

from ..datasets.layout import stem
from ..datasets.work_table import STATES, State, WorkCase, WorkTable, read_table, table_text
from ..errors import InputError, OutputError
from ..io.atomic import atomic_path, cannot_write
from ..io.guards import existing
from .claims import Claim, claim_path, new_claim, now, read_claim, saved_now, user_name, write_claim
from .template import Template, read_template, template_path

_TIMEOUT = 30.0
"""Seconds to wait for another process that changes the list; a change takes milliseconds."""

TO_DO: tuple[State, ...] = ("new", "in work")
"""States of the cases that an annotator works through."""


@dataclass(frozen=True)
class CaseFiles:
    """Where the results of a case lie; the three have one name and differ in their extensions.

    Attributes:
        segmentation: the segments, .seg.nrrd.
        record: the prompts and settings, .json, as `biosam2.record` writes them.
        session: what a viewer needs to go on with the prompts, .session.json.
    """

    segmentation: Path
    record: Path
    session: Path

    @classmethod
    def of(cls, segmentation: Path) -> CaseFiles:
        """The files that go with a segmentation."""
        name = stem(segmentation)
        return cls(segmentation, *(segmentation.with_name(f"{name}{end}") for end in (".json", ".session.json")))


class Worklist:
    """A list of cases in a CSV file, which other processes and people may change at the same time.

    Nothing is kept in memory: each question reads the file, each change reads and writes it while it is locked. The
    lock lies beside the list (``.list.csv.lock``), so that it holds on a shared folder too.

    Args:
        path: the list.

    Raises:
        InputError: there is no such file.

    Example:
        >>> worklist = Worklist("liver.csv")
        >>> case = worklist.open_next()
        >>> with case.saving(seconds=80, interactions=6) as files:
        ...     biosam2.write_segmentation(files.segmentation, session)
        >>> case.set_state("approved")
        >>> case.close()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing(path).absolute()

    @property
    def cases(self) -> tuple[WorkCase, ...]:
        """All cases, in the list's order, as the file has them now.

        Raises:
            InputError: the list is damaged.
        """
        return self._read().cases

    @property
    def template(self) -> Template:
        """What each case begins with; an empty one where the list has none.

        Raises:
            InputError: the template is damaged.
        """
        path = template_path(self.path)
        return read_template(path) if path.exists() else Template()

    def case(self, name: str) -> WorkCase:
        """One case, as the file has it now.

        Raises:
            InputError: the list has no such case, or is damaged.
        """
        return _named(self._read(), name, self.path)

    def claims(self, cases: Sequence[WorkCase] | None = None) -> dict[str, Claim]:
        """Who has which case open, by the case's name; processes that have ended on this computer do not count.

        Args:
            cases: those in question, where they were read already; None reads all.

        Raises:
            InputError: the list is damaged.
        """
        cases = self.cases if cases is None else cases
        # One look at each folder, not one for each case: the list may be long and the folder on another machine.
        there = {file for folder in {case.segmentation.parent for case in cases} for file in _files(folder)}
        found = {c.name: read_claim(c.segmentation) for c in cases if claim_path(c.segmentation) in there}
        return {name: claim for name, claim in found.items() if claim is not None and not claim.is_stale}

    def open(self, name: str, *, take_over: bool = False) -> OpenCase:
        """Open a case and mark it as open by this process.

        Args:
            name: of the case.
            take_over: open it although another process has it open, which then cannot save any more; for cases that
                were left open on a computer that is gone.

        Raises:
            InputError: the list has no such case, or it is open elsewhere; the message says by whom.
            OutputError: the folder of the results cannot be written.
        """
        with self.locked():
            case = self.case(name)
            found = read_claim(case.segmentation)
            ended = found is not None and found.is_stale
            if found is not None and not ended and not found.is_here and not take_over:
                raise InputError(
                    f"case {name} is open elsewhere ({found}); open another one, or take it over if nobody works there"
                )
            claim = new_claim()
            try:
                case.segmentation.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(case.segmentation, error) from error
            write_claim(case.segmentation, claim)
        return OpenCase(self, name, case.segmentation, claim, found if ended else None)

    def open_next(self, after: str | None = None, states: Sequence[State] = TO_DO) -> OpenCase | None:
        """Open the next case in the list that nobody has open, the first one again after the last.

        Args:
            after: name of the case to begin after; None begins at the top.
            states: which cases come into question.

        Returns:
            The case, or None if there is none of those states that can be opened.

        Raises:
            InputError: the list is damaged.
            OutputError: the folder of the results cannot be written.
        """
        with self.locked():
            cases = self.cases
            names = [case.name for case in cases]
            begin = names.index(after) + 1 if after in names else 0
            for case in (*cases[begin:], *cases[:begin]):
                claim = read_claim(case.segmentation)
                free = claim is None or claim.is_stale or claim.is_here
                if case.state in states and free and case.name != after:
                    return self.open(case.name)
        return None

    def set_state(self, name: str, state: State) -> None:
        """Change the state of a case that is not open elsewhere.

        Args:
            name: of the case.
            state: the new state.

        Raises:
            InputError: there is no such case or state, it is open elsewhere, or it is to be approved and has no
                segmentation.
            OutputError: the list cannot be written.
        """
        with self.locked():
            claim = read_claim(self.case(name).segmentation)
            if claim is not None and not claim.is_stale and not claim.is_here:
                raise InputError(
                    f"case {name} is open elsewhere ({claim}); change its state there, or once it is closed"
                )
            self.change(name, lambda case: with_state(case, state))

    def release(self, name: str) -> Claim | None:
        """Mark a case as closed that was left open on a computer that is gone.

        Returns:
            Who had it open, or None if nobody had. If they work on after all, they cannot save any more.

        Raises:
            InputError: the list has no such case.
            OutputError: the mark cannot be removed.
        """
        with self.locked():
            segmentation = self.case(name).segmentation
            found = read_claim(segmentation)
            _remove(claim_path(segmentation))
        return found

    def add(self, cases: Sequence[WorkCase]) -> list[WorkCase]:
        """Put cases at the end of the list, but for those whose image it has already.

        Returns:
            Those that were added.

        Raises:
            InputError: the list is damaged, or has another image under a name.
            OutputError: the list cannot be written.
        """
        with self.locked():
            table = self._read()
            known = {(case.image, case.series, case.channel) for case in table.cases}
            added = [case for case in cases if (case.image, case.series, case.channel) not in known]
            taken = {case.name for case in table.cases}
            for case in added:
                if case.name in taken:
                    raise InputError(f"{self.path} has another image under the name {case.name}; rename that case")
            if added:
                self._write(replace(table, cases=(*table.cases, *added)))
        return added

    def change(self, name: str, how: Callable[[WorkCase], WorkCase]) -> WorkCase:
        """Read the list, change one case, and write it, with nobody else in between.

        Args:
            name: of the case.
            how: gives the changed case.

        Returns:
            The changed case.

        Raises:
            InputError: the list is damaged or has no such case.
            OutputError: the list cannot be written.
        """
        with self.locked():
            table = self._read()
            before = _named(table, name, self.path)
            after = how(before)
            if after != before:
                self._write(replace(table, cases=tuple(after if c is before else c for c in table.cases)))
        return after

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the list; may be entered again within.

        Raises:
            OutputError: another process holds the lock all the time, or the folder cannot be written.
        """
        # For all: the folder's other users must be able to lock it too.
        lock = filelock.FileLock(
            self.path.with_name(f".{self.path.name}.lock"), timeout=_TIMEOUT, mode=0o666, is_singleton=True
        )
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise OutputError(
                f"another program has kept {self.path} locked for {_TIMEOUT:.0f} s; close it and try again"
            ) from error
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            yield
        finally:
            lock.release()

    def _read(self) -> WorkTable:
        return read_table(self.path)

    def _write(self, table: WorkTable) -> None:
        with atomic_path(self.path) as temporary:
            temporary.write_text(table_text(table, self.path), encoding="utf-8", newline="")


class OpenCase:
    """A case that this process has open; made by `Worklist.open`.

    Attributes:
        worklist: its list.
        name: of the case.
        files: where its results lie.
        recovered: who had it open and ended without closing it, or None.
    """

    def __init__(
        self, worklist: Worklist, name: str, segmentation: Path, claim: Claim, recovered: Claim | None
    ) -> None:
        self.worklist = worklist
        self.name = name
        self.files = CaseFiles.of(segmentation)
        self.recovered = recovered
        self._claim = claim

    @property
    def case(self) -> WorkCase:
        """The case as the list has it now."""
        return self.worklist.case(self.name)

    @property
    def is_open(self) -> bool:
        """Whether it can be saved: nobody has taken it over or released it, and it is not closed."""
        found = read_claim(self.files.segmentation)
        return found is not None and found.token == self._claim.token

    @contextmanager
    def saving(self, *, state: State | None = None, seconds: float = 0.0, interactions: int = 0) -> Iterator[CaseFiles]:
        """Save the results: they are written into a temporary folder and then take the place of the earlier ones.

        On a failure the earlier files stay as they were. The list is written before they are replaced, so that it never
        says that something is approved which was changed since; an approval is written after them, of an approved case
        too, by whoever saves it now.

        Args:
            state: that the case then has; by default a new or an approved one is in work, and others stay.
            seconds: of work since it was saved last; added to the list's.
            interactions: since it was saved last; added to the list's.

        Yields:
            The files to write: the segmentation, and what else there is to keep.

        Raises:
            InputError: another process has taken the case over, or the list is damaged; nothing is written then.
            OutputError: a file cannot be written.
        """
        with ExitStack() as held:
            with atomic_path(self.files.segmentation) as temporary:
                yield CaseFiles.of(temporary)
                held.enter_context(self.worklist.locked())
                self._check()
                if not temporary.is_file():
                    raise OutputError(f"cannot save case {self.name}: no segmentation was written")
                self._claim = saved_now(self._claim)
                write_claim(self.files.segmentation, self._claim)
                if state == "approved":
                    self._change(None, 0.0, 0, saved=True)
                else:
                    self._change(state, seconds, interactions, saved=True)
            if state == "approved":
                self._change(state, seconds, interactions, saved=True)

    def set_state(self, state: State) -> None:
        """Change the state; nothing else is written.

        Raises:
            InputError: another process has taken the case over, or it is to be approved and has no segmentation.
            OutputError: the list cannot be written.
        """
        self.add_work(0.0, 0, state)

    def add_work(self, seconds: float, interactions: int, state: State | None = None) -> None:
        """Count work on the case without saving it.

        Args:
            seconds: since it was counted last.
            interactions: since they were counted last.
            state: that the case then has; None leaves it.

        Raises:
            InputError: another process has taken the case over, or it is to be approved and has no segmentation.
            OutputError: the list cannot be written.
        """
        with self.worklist.locked():
            self._check()
            self._change(state, seconds, interactions, saved=False)

    def close(self) -> None:
        """Say that the case is not open any more; one that was taken over is left to the other."""
        with self.worklist.locked():
            if self.is_open:
                _remove(claim_path(self.files.segmentation))

    def _change(self, state: State | None, seconds: float, interactions: int, *, saved: bool) -> None:
        def changed(case: WorkCase) -> WorkCase:
            chosen = state or ("in work" if saved and case.state in ("new", "approved") else case.state)
            counted = replace(case, seconds=case.seconds + seconds, interactions=case.interactions + interactions)
            return with_state(counted, chosen)

        self.worklist.change(self.name, changed)

    def _check(self) -> None:
        if self.is_open:
            return
        found = read_claim(self.files.segmentation)
        whose = f"was taken over ({found})" if found else "is not open any more"
        raise InputError(f"case {self.name} {whose}; nothing was saved: export your segmentation under another name")


def with_state(case: WorkCase, state: State) -> WorkCase:
    """The case in a state, with who changed it and when; unchanged if it has that state.

    Raises:
        InputError: there is no such state, or it is approved and there is no segmentation.
    """
    if state not in STATES:
        raise InputError(f"there is no state {state!r}; states are {', '.join(STATES)}")
    if state == "approved" and not case.segmentation.is_file():
        raise InputError(f"case {case.name} has no segmentation to approve ({case.segmentation}); save one first")
    return case if state == case.state else replace(case, state=state, changed=now(), by=user_name())


def _named(table: WorkTable, name: str, source: Path) -> WorkCase:
    for case in table.cases:
        if case.name == name:
            return case
    raise InputError(f"{source} has no case {name}; biosam2 worklist show lists them")


def _files(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where there is no folder."""
    return list(folder.iterdir()) if folder.is_dir() else []


def _remove(path: Path) -> None:
    """Remove a file that may be gone already.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
