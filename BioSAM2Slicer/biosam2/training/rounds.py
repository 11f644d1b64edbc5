"""One round of training: prompts go in, the network answers as it would in a session, the losses come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..frames import IMAGENET_MEAN, IMAGENET_STD
from .clips import Clip
from .losses import Decoded, DecoderTap, Loss, segmentation_loss
from .simulation import simulate_box, simulate_correction, simulate_points

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

    from .bank import ImageBank

_Bank = dict[str, dict[int, Any]]  # what SAM 2 calls the output dict
_LENGTH = 64  # frames that the clip pretends to be cut from: positions in time are relative to it


@dataclass
class Answers:
    """What came out of a round.

    Args:
        loss: to be minimised.
        terms: means of the loss's terms, for the log.
        dice: name of a kind of answer → Dice of each object that was there.
        masks: frame → chosen logits (N, S/4, S/4).
    """

    loss: Tensor
    terms: dict[str, float] = field(default_factory=dict)
    dice: dict[str, list[float]] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)


class PromptSimulation:
    """A batch of clips in front of a network in evaluation mode; every pair of clip and target is one object.

    Args:
        network: gradients flow where torch records them.
        clip: a batch: every field with a leading axis over clips; on the network's device.
        rng: source of randomness for prompts.
        loss: of a prediction.
    """

    def __init__(self, network: SAM2Base, clip: Clip, rng: np.random.Generator, loss: Loss = segmentation_loss) -> None:
        self._network = network
        self._rng = rng
        self._loss = loss
        self._prompted = clip.prompted
        self._clips, self._frames = clip.images.shape[:2]
        self._targets = clip.masks.shape[1]
        self._size = clip.images.shape[-1]
        self._truth = clip.masks.float().flatten(0, 1)  # (N, F, S/4, S/4)
        self._areas = clip.areas.flatten(0, 1)
        self._prompt_masks = clip.prompt_masks.flatten(0, 1)
        self._points = clip.points.flatten(0, 1)
        self._boxes = clip.boxes.flatten(0, 1)
        self._device = clip.images.device
        images = clip.images.float().div(255).flatten(0, 1)
        images = images if images.ndim == 4 else images[:, None]
        mean, spread = (torch.tensor(v, device=self._device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        out = network.forward_image((images - mean) / spread)
        _, features, positions, self._sizes = network._prepare_backbone_features(out)
        # (HW, clips * frames, C), one column for every frame of every clip
        columns = [torch.arange(self._clips) * self._frames + f for f in range(self._frames)]
        self._columns = [c.repeat_interleave(self._targets) for c in columns]
        self._features, self._positions = features, positions
        self._losses: list[dict[str, Tensor]] = []
        self._dice: dict[str, list[float]] = {}

    def answer_frame(self, kind: str, corrections: int, feed_back: bool | None = None) -> Answers:
        """The prompted frame alone: a prompt, then correcting clicks.

        Args:
            kind: of the prompt.
            corrections: clicks after it.
            feed_back: whether the last answer is fed back; a session does so once the slice has been swept, and not
                before. None: now and then.
        """
        if feed_back is None:
            feed_back = self._rng.random() < 0.4
        with DecoderTap(self._network.sam_mask_decoder) as tap:
            points = self._prompt(kind)
            previous = None
            for turn in range(corrections + 1):
                out = self._decode(self._prompted, points, None, previous)
                self._judge(tap, self._prompted, out, points, kind if turn == 0 else f"{kind}+{turn}")
                previous = out[3].detach().clamp(-32, 32) if feed_back else None
                if turn < corrections:
                    points = _append(points, self._correct(self._prompted, out[3]))
        return self._answers({self._prompted: out[3].detach()[:, 0]})

    def answer_image(self, kind: str, bank: ImageBank) -> Answers:
        """The prompted frame by itself, conditioned on memories of other images, of which it becomes one.

        Args:
            kind: of the prompt.
            bank: memories of earlier images; this one's come in where the bank takes them.
        """
        frame, points = self._prompted, self._prompt(kind)
        here = self._of(frame)
        features = bank.condition(here["current_vision_feats"][-1], here["current_vision_pos_embeds"][-1])
        with DecoderTap(self._network.sam_mask_decoder) as tap:
            out = self._network._forward_sam_heads(
                _as_map(features, self._sizes[-1]),
                points,
                None,
                [_as_map(f, s) for f, s in zip(here["current_vision_feats"][:-1], self._sizes[:-1], strict=True)],
                multimask_output=False,
            )
            _, _, ious, low, high, _, presence = out
            self._judge(tap, frame, {"pred_masks": low}, points, kind)
        vision = [*here["current_vision_feats"][:-1], features]
        with torch.no_grad():
            memory, position = self._network._encode_new_memory(vision, self._sizes, high, presence, kind == "click")
        bank.offer(memory, position[-1], ious[:, 0])
        return self._answers({frame: low.detach()[:, 0]})

    def answer_clip(self, kind: str, correct: bool, skip: int = 0, foreign: bool = False) -> Answers:
        """The whole clip: a prompt, a sweep forward, a sweep backward, as in propagation both ways.

        Args:
            kind: of the prompt.
            correct: whether a click corrects one swept frame as soon as it is seen.
            skip: frames that the prompted one is pretended to lie further away, 0 for none.
            foreign: whether the sweep ends in another clip, where no target is.
        """
        bank: _Bank = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        masks: dict[int, Tensor] = {}
        forward, backward = self._sweeps(self._prompted)
        corrected = self._rng.choice(forward + backward) if correct and forward + backward else None
        with DecoderTap(self._network.sam_mask_decoder) as tap:
            first, points = self._start(kind, bank)
            if kind != "mask":
                self._judge(tap, self._prompted, first, points, kind)
            masks[self._prompted] = first["pred_masks"].detach()[:, 0]
            bank["cond_frame_outputs"][self._prompted - skip] = first
            for reverse, sweep in ((False, forward), (True, backward)):
                if reverse and skip:
                    bank["cond_frame_outputs"] = {
                        (self._prompted if f == self._prompted - skip else f): out
                        for f, out in bank["cond_frame_outputs"].items()
                    }
                for frame in sweep:
                    out = self._track(frame, bank, None, None, None, reverse)
                    self._judge(tap, frame, out, None, f"{kind} swept")
                    if frame == corrected:
                        click = self._correct(frame, out["pred_masks"])
                        previous = out["pred_masks"].detach().clamp(-32, 32)
                        out = self._track(frame, bank, click, None, previous, reverse)
                        self._judge(tap, frame, out, click, f"{kind} corrected")
                        bank["cond_frame_outputs"][frame] = out
                    else:
                        bank["non_cond_frame_outputs"][frame] = out
                    masks[frame] = out["pred_masks"].detach()[:, 0]
            if foreign and self._clips > 1:
                self._judge_foreign(tap, bank)
        return self._answers(masks)

    def answer_again(self, kind: str, corrections: int) -> Answers:
        """The whole clip once more: swept, corrected on its worst frames one after the other, swept again.

        The sweeps before the last one are the session's past and are not trained. As in a session, a correction sees
        the memories and refines what its frame had shown, and each sweep starts from the earliest prompted frame.

        Args:
            kind: of the first prompt.
            corrections: frames that are corrected, each by clicks or, now and then, by the target itself.
        """
        bank: _Bank = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        conditioning, swept = bank["cond_frame_outputs"], bank["non_cond_frame_outputs"]
        with DecoderTap(self._network.sam_mask_decoder) as tap:
            with torch.no_grad():
                conditioning[self._prompted], _ = self._start(kind, bank)
            for _ in range(min(corrections, self._frames - 2)):  # one frame at least is left to be swept
                with torch.no_grad():
                    self._sweep_all(bank)
                frame = self._worst(swept)
                reverse = frame < min(conditioning)
                old = swept.pop(frame)["pred_masks"].detach()
                previous = old.clamp(-32, 32)
                if self._rng.random() < 0.3:
                    whole = functional.interpolate(self._truth[:, frame, None], scale_factor=4, mode="bilinear")
                    out = self._track(frame, bank, None, (whole > 0.5).float(), None, reverse)
                else:
                    click = self._correct(frame, old)
                    out = self._track(frame, bank, click, None, previous, reverse)
                    self._judge(tap, frame, out, click, f"{kind} corrected")
                    if self._rng.random() < 0.5:
                        click = _append(click, self._correct(frame, out["pred_masks"]))
                        out = self._track(frame, bank, click, None, previous, reverse)
                        self._judge(tap, frame, out, click, f"{kind} corrected twice")
                conditioning[frame] = out
            self._sweep_all(bank, tap, f"{kind} swept again")
        return self._answers({frame: out["pred_masks"].detach()[:, 0] for frame, out in (conditioning | swept).items()})

    def answer_several(self, kind: str, count: int, swept_before: bool) -> Answers:
        """The whole clip from several prompted frames, in the sweep's past and future.

        Args:
            kind: of the first prompt; the others are masks, boxes and clicks.
            count: frames that are prompted.
            swept_before: whether the clip was swept from the first prompt before the others came, as when a user
                corrects what a propagation gave; that sweep is the session's past and is not trained.
        """
        bank: _Bank = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        conditioning, swept = bank["cond_frame_outputs"], bank["non_cond_frame_outputs"]
        others = [f for f in range(self._frames) if f != self._prompted]
        chosen = self._rng.choice(others, min(count - 1, len(others) - 1), replace=False)
        with DecoderTap(self._network.sam_mask_decoder) as tap:
            if swept_before:
                with torch.no_grad():
                    conditioning[self._prompted], _ = self._start(kind, bank)
                    self._sweep_all(bank)
            else:
                conditioning[self._prompted], points = self._start(kind, bank)
                if points is not None:
                    self._judge(tap, self._prompted, conditioning[self._prompted], points, kind)
            for frame in map(int, chosen):
                points, mask = self._any_prompt(frame)
                previous: Tensor | None = None
                memories: _Bank = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
                if swept_before:
                    memories, old = bank, swept.pop(frame)["pred_masks"]
                    previous = old.detach().clamp(-32, 32) if mask is None else None
                out = self._track(frame, memories, points, mask, previous, reverse=frame < min(conditioning))
                if points is not None:
                    self._judge(tap, frame, out, points, "another prompt")
                conditioning[frame] = out
            self._sweep_all(bank, tap, "several swept" if not swept_before else "several swept again")
        return self._answers({frame: out["pred_masks"].detach()[:, 0] for frame, out in (conditioning | swept).items()})

    # Sweeps ----------------------------------------------------------------------------------------------------------

    def _start(self, kind: str, bank: _Bank) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
        """What the prompted frame gives, and the points or box it was given."""
        points = None if kind == "mask" else self._prompt(kind)
        if kind == "clicks" and self._rng.random() < 0.7:
            points = self._corrected_click(clicks=3)
        mask = self._prompt_masks.float()[:, None] if kind == "mask" else None
        return self._track(self._prompted, bank, points, mask, None, reverse=False), points

    def _sweeps(self, start: int) -> tuple[list[int], list[int]]:
        """The frames after one, and those before it, in the order of propagation."""
        return list(range(start + 1, self._frames)), list(range(start - 1, -1, -1))

    def _sweep_all(self, bank: _Bank, tap: DecoderTap | None = None, name: str = "") -> None:
        """Propagate both ways from the earliest conditioning frame, into the bank; judged where there is a tap."""
        for reverse, sweep in zip((False, True), self._sweeps(min(bank["cond_frame_outputs"])), strict=True):
            for frame in sweep:
                if frame not in bank["cond_frame_outputs"]:
                    out = self._track(frame, bank, None, None, None, reverse)
                    bank["non_cond_frame_outputs"][frame] = out
                    if tap is not None:
                        self._judge(tap, frame, out, None, name)

    def _worst(self, swept: dict[int, dict[str, Any]]) -> int:
        """The swept frame whose answers are furthest from the targets, relative to their sizes.

        Now and then only frames count on which a target is absent, where a user would click a leak away.
        """
        truth = self._truth > 0.5
        sizes = truth.sum(dim=(1, 2, 3)).clamp(min=1)
        here = self._areas > 0
        beyond = self._rng.random() < 0.3
        wrong = {}
        for frame, out in swept.items():
            each = ((out["pred_masks"][:, 0] > 0) ^ truth[:, frame]).sum(dim=(1, 2)) / sizes
            wrong[frame] = (beyond and bool((each * ~here[:, frame]).any()), float(each.sum()))
        return max(wrong, key=wrong.__getitem__)

    # Prompts ---------------------------------------------------------------------------------------------------------

    def _prompt(self, kind: str) -> dict[str, Tensor]:
        objects = len(self._points)
        if kind == "box":
            labels = torch.tensor([2, 3], dtype=torch.int32, device=self._device).expand(objects, 2)
            return {"point_coords": self._boxes.reshape(objects, 2, 2), "point_labels": labels}
        count = 1 if kind == "click" else 3
        labels = torch.ones(objects, count, dtype=torch.int32, device=self._device)
        return {"point_coords": self._points[:, :count], "point_labels": labels}

    def _any_prompt(self, frame: int) -> tuple[dict[str, Tensor] | None, Tensor | None]:
        """Points or a mask for every object on any frame; a mask, empty for some, where not all objects are there."""
        truth = self._truth[:, frame]
        kind = self._rng.choice(["mask", "box", "click"], p=[0.45, 0.25, 0.3])
        cells = (truth > 0.5).cpu().numpy()
        if kind == "mask" or not cells.any(axis=(1, 2)).all():
            whole = functional.interpolate(truth[:, None], scale_factor=4, mode="bilinear")
            return None, (whole > 0.5).float()
        if kind == "box":
            places = np.stack([simulate_box(self._rng, mask).reshape(2, 2) for mask in cells])
            places = places * 4 + np.array([[0, 0], [3, 3]], np.float32)
            labels = [[2, 3]] * len(cells)
        else:
            places = np.stack([simulate_points(self._rng, mask, 1) for mask in cells]) * 4 + 1.5
            labels = [[1]] * len(cells)
        return {
            "point_coords": torch.from_numpy(places.astype(np.float32)).to(self._device),
            "point_labels": torch.tensor(labels, dtype=torch.int32, device=self._device),
        }, None

    @torch.no_grad()
    def _corrected_click(self, clicks: int) -> dict[str, Tensor]:
        """A click and corrections of what it gives, all to be said at once."""
        points = self._prompt("click")
        for _ in range(clicks - 1):
            points = _append(points, self._correct(self._prompted, self._decode(self._prompted, points, None, None)[3]))
        return points

    def _correct(self, frame: int, logits: Tensor) -> dict[str, Tensor]:
        """A correcting click for every object, found at a quarter of the frame's size."""
        shown = (logits.detach()[:, 0] > 0).cpu().numpy()
        truth = (self._truth[:, frame] > 0.5).cpu().numpy()
        clicks = [simulate_correction(self._rng, s, t) for s, t in zip(shown, truth, strict=True)]
        places = np.stack([place for place, _ in clicks]) * 4 + 1.5
        places += self._rng.uniform(-1.5, 1.5, places.shape)
        labels = [[int(positive)] for _, positive in clicks]
        return {
            "point_coords": torch.from_numpy(places.astype(np.float32))[:, None].to(self._device),
            "point_labels": torch.tensor(labels, dtype=torch.int32, device=self._device),
        }

    # The network -----------------------------------------------------------------------------------------------------

    def _of(self, frame: int) -> dict[str, Any]:
        return {
            "current_vision_feats": [f[:, self._columns[frame]] for f in self._features],
            "current_vision_pos_embeds": [p[:, self._columns[frame]] for p in self._positions],
            "feat_sizes": self._sizes,
            "num_frames": _LENGTH,
        }

    def _decode(self, frame: int, points: Any, mask: Tensor | None, previous: Tensor | None) -> tuple[Tensor, ...]:
        _, out, _, _ = self._network._track_step(
            frame_idx=frame,
            is_init_cond_frame=True,
            point_inputs=points,
            mask_inputs=mask,
            output_dict={},
            track_in_reverse=False,
            prev_sam_mask_logits=previous,
            **self._of(frame),
        )
        return out

    def _track(
        self, frame: int, bank: _Bank, points: Any, mask: Tensor | None, previous: Tensor | None, reverse: bool
    ) -> dict[str, Any]:
        return self._network.track_step(
            frame_idx=frame,
            is_init_cond_frame=not bank["cond_frame_outputs"],
            point_inputs=points,
            mask_inputs=mask,
            output_dict=bank,
            track_in_reverse=reverse,
            prev_sam_mask_logits=previous,
            **self._of(frame),
        )

    # The verdict -----------------------------------------------------------------------------------------------------

    def _judge(self, tap: DecoderTap, frame: int, out: Any, points: Any, name: str) -> None:
        logits = (out["pred_masks"] if isinstance(out, dict) else out[3]).detach()[:, 0]
        ambiguous = points is not None and points["point_labels"].shape[1] == 1 and "+" not in name
        truth, area = self._truth[:, frame], self._areas[:, frame]
        decoded = tap.take()
        self._add_loss(decoded, truth, area, ambiguous and "corrected" not in name)
        shown, true = logits > 0, truth > 0.5
        here = true.any(dim=2).any(dim=1)
        self._dice.setdefault(name, []).extend(_overlap(shown, true)[here].tolist())
        if "swept" in name:
            best = torch.stack([_overlap(m > 0, true) for m in decoded.masks.detach().unbind(1)], dim=1)[here]
            self._dice.setdefault("single mask swept", []).extend(best[:, 0].tolist())
            self._dice.setdefault("best mask swept", []).extend(best[:, 1:].amax(dim=1).tolist())
        gone = area == 0
        if gone.any():
            self._dice.setdefault("absent", []).extend((~shown[gone].any(dim=2).any(dim=1)).float().tolist())

    def _judge_foreign(self, tap: DecoderTap, bank: _Bank) -> None:
        """Every clip's memories in front of its neighbour's last frame: all targets are certainly absent."""
        frame = self._frames - 1
        own, shift = self._columns[frame], self._targets
        self._columns.append(torch.roll(own, shift))
        self._track(self._frames, bank, None, None, None, reverse=False)
        self._columns.pop()
        nothing = torch.zeros_like(self._truth[:, frame])
        self._add_loss(tap.take(), nothing, torch.zeros_like(self._areas[:, frame]), False)

    def _add_loss(self, decoded: Decoded, truth: Tensor, area: Tensor, ambiguous: bool) -> None:
        # Losses are sums over thousands of cells: never in half precision.
        with torch.autocast(self._device.type, enabled=False):
            self._losses.append(self._loss(decoded, truth, area, ambiguous))

    def _answers(self, masks: dict[int, Tensor]) -> Answers:
        losses, self._losses = self._losses, []
        dice, self._dice = self._dice, {}
        loss = torch.stack([sum(terms.values(), start=torch.zeros(())) for terms in losses]).mean()
        names = sorted({name for terms in losses for name in terms})
        terms = {name: float(np.mean([float(t[name].detach()) for t in losses if name in t])) for name in names}
        return Answers(loss, terms, dice, masks)


def _overlap(shown: Tensor, true: Tensor) -> Tensor:
    """Dice of bool masks (N, rows, columns), (N,)."""
    return 2 * (shown & true).sum(dim=(1, 2)) / (shown.sum(dim=(1, 2)) + true.sum(dim=(1, 2))).clamp(min=1)


def _as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (HW, N, C) as (N, C, H, W)."""
    return tokens.permute(1, 2, 0).reshape(tokens.shape[1], tokens.shape[2], *size)


def _append(points: dict[str, Tensor], more: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([points[name], more[name]], dim=1) for name in points}
