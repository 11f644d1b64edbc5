"""The panel's session: prompts from the scene go to the worker, masks from the worker go into the segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from biosam2.errors import BioSAM2Error
from biosam2.session import ModelFacts, SessionState
from biosam2.session.entries import Cleared, Propagated
from numpy.typing import NDArray
from slicer.i18n import tr as _

from ..scene.Parameters import Parameters, keepWith, readParameters, takeFrom, writeParameters
from ..scene.PromptNodes import PromptNodes
from ..scene.SegmentSlices import Extent, SegmentSlices, fitSegmentationToVolume
from ..scene.Stroke import Stroke
from ..scene.SurfaceThrottle import SurfaceThrottle
from ..scene.VolumeGeometry import VolumeGeometry, looksLikeFilm
from ..Signal import Signal
from ..worker.ProcessDriver import ProcessDriver
from ..worker.Worker import Worker
from .EditSteps import EditSteps
from .InputWatch import InputWatch
from .NewSession import NewSession
from .Previews import Previews
from .PromptSteps import PromptSteps
from .Propagation import Propagation
from .SceneResults import SceneResults
from .SceneState import Reviewed, SceneState
from .Steps import Steps

_NOTHING_MARKED = _("Mark the structure first: click into it, or draw a box around it.")


class PanelSession:
    """The session of one volume and one segmentation in the scene. Nothing in it waits for the worker.

    What was said and done is a `biosam2.session.SessionState`; everything that is shown is asked of it. The parts:
    `SceneState` (the state and the scene), `Steps` (what can be undone), `PromptSteps` (prompts), `EditSteps` (edits by
    others), `SceneResults` (voxels and who owns them), `Previews` (masks of single slices), `Propagation`, `InputWatch`
    and `Worker`.

    Signals:
        statusChanged(str): one line on what is going on.
        stateChanged(): what can be done now has changed (running, undo, redo, input).
        progressChanged(done, total, slicesPerSecond, secondsLeft): of the propagation.
        maskWritten(segmentId, axis, index, score): a slice of a segment was written.
        given(): the user gave a prompt or a correction.
        leaving(): another input, or none, is going to take the place of this one.
        problem(str): something that the user should read; one line.
        noticed(str): something that happened by itself; one line. `problem` tells it too.
        workingChanged(): `working` has changed.
        warned(str): something that the user should think about; nothing went wrong. One line.
        modelsOffered(list): names of the models that a server has.

    Args:
        parameterNode: where settings and session are kept, so that they are saved with the scene.
        editorNode: the Segment Editor's settings; its masking settings hold for everything that is written.
        makeDriver: makes a driver of a worker process, by default one in Slicer's Python.
        modelFields: more of `biosam2.service.messages.LoadModel`'s fields, for a checkpoint of one's own.

    Example:
        >>> session = PanelSession(parameterNode, editorNode, makeDriver)
        >>> session.setInput(volumeNode, segmentationNode)
        >>> session.addBox("Segment_1", (18, 12, 12), (34, 28, 12), "k")
        >>> session.propagate(["Segment_1"])
    """

    def __init__(
        self,
        parameterNode: Any,
        editorNode: Any,
        makeDriver: Callable[[], ProcessDriver],
        modelFields: dict[str, Any] | None = None,
    ) -> None:
        self.statusChanged = Signal()
        self.stateChanged = Signal()
        self.leaving = Signal()
        self.problem = Signal()
        self.warned = Signal()
        self._node = parameterNode
        self._editor = editorNode
        self._volume: Any = None
        self._segmentation: Any = None
        self._geometry: VolumeGeometry | None = None
        self._prompts: PromptNodes | None = None
        self._slices: SegmentSlices | None = None
        self._status = ""
        # Whether settings of a session that has no prompts were changed: the next prompt begins another one.
        self._outdated = False
        # The axis of the view that the user points at; the panel knows.
        self.axisOfPointer: Callable[[], str] = lambda: "k"

        self._scene = SceneState()
        self._new = NewSession(lambda: self.parameters)
        self._watch = InputWatch()
        self._worker = Worker(makeDriver, lambda: self.parameters, modelFields)
        self._surface = SurfaceThrottle(lambda: self.running)
        self._results = SceneResults(self._scene, self._surface.beforeWrite)
        self._steps = Steps(lambda: self._node, self._scene, self._results, self._worker.connect)
        self._editSteps = EditSteps(self._steps, self._results)
        self._previews = Previews(self._worker, self._scene, self._results, self._steps)
        self._promptSteps = PromptSteps(
            self._steps,
            self._scene,
            self._results,
            self._previews,
            self._worker,
            lambda: self._ensureSession(self.axisOfPointer()),
        )
        self._propagation = Propagation(self._worker, self._scene, self._results, self._steps)
        self.given = self._steps.given
        self.progressChanged = self._propagation.progressChanged
        self.modelsOffered = self._worker.offered
        self.noticed = self._worker.noticed
        self.workingChanged = self._worker.workingChanged
        self.maskWritten = self._results.written
        self._connectParts()

    def _connectParts(self) -> None:
        self._watch.replaced.connect(self._onVolumeReplaced)
        self._watch.transformed.connect(self._onTransformed)
        self._watch.segmentsRemoved.connect(self._onSegmentsRemoved)
        self._steps.moving.connect(self._propagation.stop)
        self._steps.changed.connect(self._propagation.endIfUndone)
        for changed in (self._steps.changed, self._previews.changed, self._worker.ready):
            changed.connect(self.stateChanged.emit)
        for warned in (self._previews.warned, self._propagation.warned):
            warned.connect(self.warned.emit)
        self._promptSteps.refused.connect(self.problem.emit)
        self._promptSteps.vanished.connect(self._onPromptVanished)
        self._propagation.arrived.connect(self._steps.save)
        self._propagation.ended.connect(self._onPropagated)
        self._worker.noticed.connect(self.problem.emit)
        self._worker.lost.connect(self._onWorkerLost)
        self._previews.asked.connect(self.workingChanged.emit)
        for said in (self._worker.said, self._propagation.said):
            said.connect(self._say)
        for failed in (self._worker.failed, self._previews.failed, self._propagation.failed):
            failed.connect(self._fail)

    # -- properties ------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState | None:
        """What was said and done; None before the first prompt."""
        return self._scene.state

    @property
    def parameters(self) -> Parameters:
        """The settings, from the scene."""
        return readParameters(self._node)

    @property
    def status(self) -> str:
        """The last status line."""
        return self._status

    @property
    def running(self) -> bool:
        """Whether a propagation is under way."""
        return self._propagation.running

    @property
    def working(self) -> str:
        """What is waited for, in one line: the worker to be ready, or an outline; empty for nothing."""
        return self._worker.working or (_("Outlining …") if self._previews.waiting else "")

    @property
    def busy(self) -> bool:
        """Whether an answer of the worker is awaited."""
        return self.running or self._previews.waiting or self._worker.busy

    @property
    def canUndo(self) -> bool:
        return bool(self._steps.done)

    @property
    def canRedo(self) -> bool:
        return bool(self._steps.undone)

    @property
    def undoBytes(self) -> int:
        """Memory that the steps take which can be undone and redone."""
        return self._steps.nbytes

    @property
    def undoCount(self) -> int:
        """How many steps can be undone and redone."""
        return len(self._steps.done) + len(self._steps.undone)

    @property
    def prompts(self) -> PromptNodes | None:
        """The markups; None without an input."""
        return self._prompts

    @property
    def volumeNode(self) -> Any:
        return self._volume

    @property
    def segmentationNode(self) -> Any:
        return self._segmentation

    @property
    def model(self) -> ModelFacts:
        """The network that draws, as far as a worker has told."""
        unknown = ModelFacts(name=self.parameters.model, sha256="", device="", device_reason="", image_size=0)
        return self._worker.facts or unknown

    @property
    def axis(self) -> str:
        """The session's axis; empty before the first prompt."""
        return self._scene.axis

    @property
    def begun(self) -> bool:
        """Whether a segment is prompted."""
        return bool(self._scene.prompted)

    def window(self) -> tuple[float, float] | None:
        """(centre, width) in which the model sees the volume, or would if a session began now; None without one."""
        if self._volume is None:
            return None
        if self.begun and self.state is not None:
            return self.state.settings.window
        return self._new.window()

    def pixelSize(self, axis: str) -> tuple[float, float]:
        """Size of a pixel of a slice along rows and columns, in mm."""
        i, j, k = self._geometry.spacing  # type: ignore[union-attr]
        return {"k": (j, i), "j": (k, i), "i": (k, j)}[axis]

    def toRecord(self) -> dict[str, Any]:
        """The session's part of a run record, see `biosam2.Session.to_record`; segments go by their identifiers."""
        state = self.state
        if state is None:
            scene = SceneState()
            scene.begin(self._new.settings("k"), self._geometry.shape)  # type: ignore[union-attr]
            state = scene.state
            assert state is not None
        return state.to_record(state.settings.precision)

    # -- segments --------------------------------------------------------------------------------

    def isPrompted(self, segmentId: str) -> bool:
        """Whether a segment carries prompts."""
        return segmentId in self._scene.prompted

    def promptedSlices(self, segmentId: str) -> list[int]:
        """Slices with a prompt of this segment, ascending."""
        return sorted({self._scene.sliceOf(prompt) for prompt in self._scene.segment(segmentId).prompts})

    def resultSlices(self, segmentId: str) -> set[int]:
        """Slices on which a propagation left a result."""
        return set(self._scene.segment(segmentId).results)

    def correctedSlices(self, segmentId: str) -> set[int]:
        """Slices whose mask the user drew, or has changed since it was written."""
        self._results.look()
        drawn = self.state.drawn_slices(segmentId) if segmentId in self._scene.segments else set()  # type: ignore[union-attr]
        return {*drawn, *self._results.correctedSlices(segmentId)}

    def lockedSlices(self, segmentId: str) -> set[int]:
        """Slices that the user locked."""
        return set(self._scene.segment(segmentId).locked)

    def usedSlices(self, segmentId: str) -> list[int]:
        """Slices along the session's axis on which the segment has voxels, ascending."""
        return self._results.usedSlices(segmentId) if self._segmentation is not None and self.axis else []

    def mask(self, segmentId: str) -> tuple[Extent, NDArray[np.bool_]] | None:
        """A box around the segment and its voxels there, see `SegmentSlices.mask`."""
        return self._slices.mask(segmentId) if self._slices is not None else None

    def voxelStamp(self, segmentId: str) -> int:
        """A number that is another one when the segment's voxels have changed."""
        return self._slices.stamp(segmentId) if self._slices is not None else 0

    def reviewed(self, segmentId: str) -> dict[int, Reviewed]:
        """Slices with a result, and what is known of it for the review."""
        return self._scene.reviewed(segmentId)

    def doubts(self, segmentId: str, extent: tuple[float, float], changed: Iterable[int]) -> dict[int, float]:
        """How much slices need a look, see `biosam2.session.doubt.doubts`.

        Args:
            segmentId: the segment.
            extent: first and last slice with voxels of it.
            changed: slices that the user has changed.
        """
        return self._scene.doubts(segmentId, extent, changed)

    def see(self, segmentId: str, index: int) -> bool:
        """Note that the user has looked at a slice; False where there was nothing new to see."""
        new = self._scene.see(segmentId, index)
        if new:
            self._steps.save()
        return new

    # -- input -----------------------------------------------------------------------------------

    def setInput(self, volumeNode: Any, segmentationNode: Any) -> bool:
        """Work on this volume and segmentation; None for nothing.

        Returns:
            Whether it can be: a segmentation that holds voxels on another grid cannot.
        """
        if volumeNode is self._volume and segmentationNode is self._segmentation:
            return True
        if self._segmentation is not None:
            self.leaving.emit()
        before, prompts = self._segmentation, self._prompts
        self._release()
        if before is not None and before is not segmentationNode and before.GetScene() is not None:
            # Its masks and prompts would be taken for the next one's.
            before.SetDisplayVisibility(False)
            prompts.setVisible(False)  # type: ignore[union-attr]
        if volumeNode is None or segmentationNode is None or volumeNode.GetImageData() is None:
            self.stateChanged.emit()
            return False
        if not fitSegmentationToVolume(segmentationNode, volumeNode):
            self.stateChanged.emit()
            return False
        self._volume, self._segmentation = volumeNode, segmentationNode
        self._geometry = VolumeGeometry(volumeNode)
        self._new.open(volumeNode)
        self._slices = SegmentSlices(segmentationNode, self._editor, volumeNode)
        self._surface.open(segmentationNode)
        self._results.open(segmentationNode, self._slices)
        self._prompts = PromptNodes(segmentationNode, volumeNode)
        self._prompts.refused.connect(self.problem.emit)
        segmentationNode.SetDisplayVisibility(True)
        self._prompts.setVisible(True)
        self._promptSteps.open(self._prompts)
        self._steps.open(self._prompts)
        self._reopen()
        if self.state is None:
            writeParameters(self._node, replace(self.parameters, film=looksLikeFilm(volumeNode)))
        self._watch.open(volumeNode, segmentationNode)
        self._worker.open(volumeNode)
        self.stateChanged.emit()
        return True

    def setParameters(self, **changes: Any) -> None:
        """Change settings. Model and device take effect at once; window, crop and policy, with the next session."""
        before = self.parameters
        after = replace(before, **changes)
        if after == before:
            return
        writeParameters(self._node, after)
        if after.undoStates != before.undoStates:
            self._steps.keep(after.undoStates)
        if (after.undoStates, after.film, after.untilGone) != (before.undoStates, before.film, before.untilGone):
            self.stateChanged.emit()
        if (before.model, before.device) != (after.model, after.device) and self._worker.driver is not None:
            self._propagation.abandon()
            self._worker.restart()
        elif (before.window, before.crop, before.policy) != (after.window, after.crop, after.policy):
            self._outdated = True
            if self.begun and before.window != after.window:
                self._say(_("The new window takes effect in the next session; reset all segments to begin one."))

    def useEditor(self, editorNode: Any, saveState: Callable[[], Any] | None = None) -> None:
        """Write under the masking settings of this Segment Editor from now on.

        Args:
            editorNode: its settings.
            saveState: lets its undo keep the segmentation as it is before a step; None where its undo is not in use.
        """
        self._editor = editorNode
        self._steps.saveState = saveState
        if self._slices is not None and editorNode.GetSegmentationNode() is self._segmentation:
            self._slices.useEditor(editorNode)

    def setNodes(self, parameterNode: Any, editorNode: Any) -> None:
        """Keep settings and session in other nodes from now on, after the scene was closed; without an input."""
        self.setInput(None, None)
        self._node = parameterNode
        self.useEditor(editorNode)

    def cleanup(self) -> None:
        """Release scene and worker."""
        self._release()
        self._worker.stop()

    # -- what the user does ----------------------------------------------------------------------

    def addBox(self, segmentId: str, minIjk: tuple[float, ...], maxIjk: tuple[float, ...], axis: str) -> None:
        """A box was drawn, flat on an axis."""
        if self._isAlong(axis):
            self._promptSteps.addBox(segmentId, minIjk, maxIjk)

    def addStroke(self, segmentId: str, stroke: Stroke, axis: str) -> None:
        """A stroke was drawn in a view along an axis."""
        if self._isAlong(axis):
            self._promptSteps.addStroke(segmentId, stroke)

    def addMask(self, segmentId: str, index: int, axis: str = "") -> bool:
        """What is painted on a slice becomes a prompt; False where nothing is."""
        if self._prompts is None:
            return False
        self._ensureSession(axis or self.axisOfPointer())
        if not self._promptSteps.addMask(segmentId, index):
            self.problem.emit(_("Nothing is painted on this slice; paint the structure first."))
            return False
        return True

    def startFrom(self, segmentId: str, axis: str = "") -> bool:
        """Let the session go on from what a segment holds: clicks refine it, and a propagation may replace it.

        Where nothing is marked yet, the slice with the largest section becomes a mask prompt, to propagate from.

        Args:
            segmentId: the segment.
            axis: of a session that begins with this; by default that of the view which the user points at.

        Returns:
            False for an empty segment.
        """
        if self._prompts is None:
            return False
        self._ensureSession(axis or self.axisOfPointer())
        if not self._promptSteps.startFrom(segmentId):
            self.problem.emit(_("This segment is empty; paint it, or import one."))
            return False
        return True

    def lock(self, segmentId: str, index: int, locked: bool = True) -> bool:
        """Keep a slice as it is now, whatever is propagated later, or release it; False if nothing is marked yet."""
        if self._prompts is None:
            return False
        if not self._promptSteps.lock(segmentId, index, locked):
            self.problem.emit(_NOTHING_MARKED)
            return False
        return True

    def propagateFrom(self, segmentId: str, index: int, direction: str = "both") -> bool:
        """Propagate a segment from a slice that was corrected, away from where the segment was marked first.

        Args:
            segmentId: the segment.
            index: the slice.
            direction: where the slice is the only one that is marked.
        """
        self._results.look()
        if self._prompts is None or self.running:
            return False
        marked = {*self.promptedSlices(segmentId), *self._results.correctedSlices(segmentId)} - {index}
        if not marked:
            return self.propagate([segmentId], direction)
        # Slices above the lowest marked one are reached upwards only, as SAM 2 does.
        if index > min(marked):
            return self.propagate([segmentId], "forward", first=index)
        return self.propagate([segmentId], "backward", last=index)

    def propagate(
        self,
        segmentIds: Iterable[str] | None = None,
        direction: str = "both",
        first: int | None = None,
        last: int | None = None,
        untilGone: bool = False,
    ) -> bool:
        """Propagate segments through the volume; False if there is nothing to propagate, or a propagation runs.

        Args:
            segmentIds: by default all that carry prompts.
            direction: ``both``, ``forward`` (rising slice index) or ``backward``.
            first, last: the range, inclusive; None for no bound.
            untilGone: whether to end where the objects do, in each direction.
        """
        if self._prompts is None or self.running:
            return False
        if VolumeGeometry(self._volume).count(self.axis or "k") == 1:
            self.problem.emit(_("This is a single image: there is no other slice to propagate to."))
            return False
        asked = None if segmentIds is None else set(segmentIds)
        names = tuple(name for name in self._scene.prompted if asked is None or name in asked)
        if not names or self.state is None:
            self.problem.emit(_NOTHING_MARKED)
            return False
        wanted = Propagated(names, direction, first, last)
        try:
            self.state.check(wanted)
        except BioSAM2Error as error:
            self.problem.emit(str(error))
            return False
        step = self._steps.new()
        for name in names:
            self._promptSteps.takeCorrections(step, name)
        self._steps.commit(step, given=False)
        self._propagation.start(step, wanted, untilGone)
        self.stateChanged.emit()
        return True

    def stop(self) -> None:
        """Stop the propagation after the slice that it is at; finished slices stay."""
        self._propagation.stop()

    def clear(self, segmentId: str) -> None:
        """Drop a segment's prompts, and the masks that this session wrote; what the user painted stays."""
        if self._prompts is None or not self.axis:
            return
        step = self._steps.new()
        kept = self._scene.userSlices(segmentId)
        for name, placed in self._prompts.prompts().items():
            if placed.segmentId == segmentId:
                self._prompts.remove(name)
        for index in self._results.writtenSlices(segmentId):
            if index not in kept:
                self._results.write(step, segmentId, index, None)
        self._results.release(step, segmentId, kept)
        if segmentId in self._scene.segments:
            self._steps.add(step, Cleared(segmentId))
        self._previews.forget(segmentId)
        self._steps.commit(step)

    def undo(self) -> bool:
        """Undo the last step: prompts, entries and voxels together; False if there is none."""
        done = self._steps.undo()
        if done:
            self._say(_("Undone."))
        return done

    def redo(self) -> bool:
        """Redo the step that was undone last; False if there is none."""
        done = self._steps.redo()
        if done:
            self._say(_("Redone."))
        return done

    # -- the session -----------------------------------------------------------------------------

    def _isAlong(self, axis: str) -> bool:
        """Whether the session takes what was drawn in a view along an axis; it begins along it, or goes on."""
        if self._prompts is None:
            return False
        self._ensureSession(axis)
        if self.axis == axis:
            return True
        text = _("This session runs along the {axis} axis: draw on its slices; in this view use points.")
        self.problem.emit(text.format(axis=self.axis))
        return False

    def _ensureSession(self, axis: str) -> None:
        """Begin a session along this axis, unless one with prompts is under way."""
        axis = self._new.axis(axis)
        if self.state is not None:
            if self.begun or (axis == self.axis and not self._outdated):
                return
            self._steps.clear()
            self._results.forget()
            self._previews.forget()
        # The first prompt decides the axis, and the window that the network sees.
        try:
            settings = self._new.settings(axis)
        except BioSAM2Error as error:
            self._fail(str(error))
            raise
        self._scene.begin(settings, self._geometry.shape)  # type: ignore[union-attr]
        self._outdated = False

    def _reopen(self) -> None:
        """Go on with what the scene holds, if it belongs to this segmentation."""
        assert self._geometry is not None
        try:
            takeFrom(self._node, self._segmentation)
            self._scene.load(self.parameters.session, self._geometry.shape)
        except ValueError as error:
            self.problem.emit(str(error))
        segmentation = self._segmentation.GetSegmentation()
        if self.state is None or any(segmentation.GetSegment(name) is None for name in self._scene.prompted):
            self._scene.close()
            writeParameters(self._node, replace(self.parameters, session="", corrected=""))
            return
        for name in self._scene.segments:
            written = {*self.promptedSlices(name), *self.resultSlices(name)}
            if self._scene.segment(name).start is not None:
                written |= set(self.usedSlices(name))
            for index in written:
                self._results.adopt(name, index)
        self._results.load(self.parameters.corrected)

    # -- the worker ------------------------------------------------------------------------------

    def _onPropagated(self) -> None:
        self._steps.save()
        self.stateChanged.emit()

    def _onPromptVanished(self, entryId: int, why: str) -> None:
        """A prompt that the network cannot take is taken out again."""
        self._fail(why)
        self._scene.refuse(entryId)
        self._worker.forget(entryId)
        self._propagation.askAgain(entryId)
        self._steps.save()

    def _onWorkerLost(self, why: str, again: bool) -> None:
        """Another worker is given what the last one did not answer."""
        wanted = self._propagation.wanted
        if not again:
            self._previews.forget()
            self._propagation.abandon()
            text = _("{why} It was started several times; choose another model or device to try again.")
            if wanted:
                text = _(
                    "{why} The propagation is stopped: several workers ended at this slice. Finished slices are kept."
                )
            self._fail(text.format(why=why))
        else:
            text = _("{why} It is restarted; nothing is lost.")
            if wanted:
                text = _("{why} It is restarted, nothing is lost, and the propagation continues where it was.")
            self._worker.noticed.emit(text.format(why=why))
            self._worker.connect()
        self._steps.save()
        self.stateChanged.emit()

    def _fail(self, text: str) -> None:
        self._say(text)
        self.problem.emit(text)

    def _say(self, text: str) -> None:
        self._status = text
        self.statusChanged.emit(text)

    # -- the scene -------------------------------------------------------------------------------

    def _onVolumeReplaced(self) -> None:
        """The worker is given the voxels; prompts and masks stay, if they lie on the same grid."""
        if self._volume.GetImageData() is None:
            return
        if VolumeGeometry(self._volume).shape != self._geometry.shape:  # type: ignore[union-attr]
            volume, segmentation = self._volume, self._segmentation
            assert self._prompts is not None
            self._prompts.restore({})
            self._scene.close()
            self._release()
            self.setInput(volume, segmentation)
            return
        self._propagation.abandon()
        self._worker.renew()
        self.stateChanged.emit()

    def _onTransformed(self) -> None:
        self._segmentation.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
        assert self._prompts is not None
        self._prompts.followTransform()
        self._geometry = VolumeGeometry(self._volume)

    def _onSegmentsRemoved(self) -> None:
        segmentation = self._segmentation.GetSegmentation()
        assert self._prompts is not None
        gone = [name for name in self._scene.segments if segmentation.GetSegment(name) is None]
        gone = [name for name in gone if self._scene.segment(name).prompts or self.resultSlices(name)]
        for name in gone:
            self._prompts.removeSegment(name)
            self._propagation.stop()
            self._scene.add(Cleared(name))
            self._previews.forget(name)
            self._results.forget(name)
        if gone:
            # Steps that touch a segment which is gone cannot be undone as a whole.
            self._steps.clear()
            self._steps.save()
            self.stateChanged.emit()

    def _release(self) -> None:
        """Release the input; the worker stays, for the next one."""
        self._watch.close()
        if self._prompts is not None:
            self._prompts.cleanup()
        self._propagation.abandon()
        self._previews.forget()
        self._worker.close()
        if self._segmentation is not None:
            self._steps.save()
            keepWith(self._node, self._segmentation)
        self._prompts = self._slices = self._geometry = None
        self._volume = self._segmentation = None
        self._new.open(None)
        self._promptSteps.open(None)
        self._steps.open(None)
        self._scene.close()
        self._results.close()
        self._surface.close()
