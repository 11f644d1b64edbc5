"""One step of the network: a prompted slice, or a slice of a sweep for a batch of segments.

The tracker knows frames, memories and the network, and no session: it is given banks and returns results. It uses
`sam2`'s modules for everything that is learned and assembles itself what they are fed with.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from numpy.typing import NDArray
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch.nn.functional import grid_sample, interpolate

from ..devices import autocast, out_of_memory, precision_of, quick_bfloat16
from ..errors import DeviceError, PromptError
from ..frames import Frames, Region
from ..masks import pack
from ..models import Model
from ..prompts import SlicePrompt
from ..speed import Speed
from .attention import ProjectedAttention, ProjectedMemory, Remembered
from .encoding import GivenUpError, LeanEncoder
from .features import DEFAULT_DISK, EncodedFrame, FeatureCache
from .memory import MemoryBank, MemoryPolicy, Reach, Recall, SliceMemory, Step
from .merging import Click, merged_logits
from .spill import Spill

# sam2's placeholder logit where the object is absent (sam2_base.NO_OBJ_SCORE).
ABSENT = -1024.0
# Previous logits are clamped to this before they are fed back (SAM2VideoPredictor.add_new_points_or_box).
_FEEDBACK_LIMIT = 32.0
_BOX_CORNERS = (2, 3)
# Tokens of a step's frames from which on projected attention is faster than `sam2`'s own: one segment at 512 pixels,
# four at 256. Below, what it rounds otherwise would be given away for nothing.
_MANY_TOKENS = 1024
# Slices that are encoded ahead on either side of a prompted one.
_AHEAD = 32

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Tracker:
    """Runs the network on slices of one volume.

    Args:
        model: the network and its device.
        frames: the slices.
        policy: what a propagated slice is compared with.
        features: where encoded frames are kept.
        precision: ``"float32"`` (exact), or ``"bfloat16"``, ``"float16"``, ``"auto"`` (approximate).
        speed: which optimisations are used.
    """

    def __init__(
        self,
        model: Model,
        frames: Frames,
        policy: MemoryPolicy,
        features: FeatureCache | None = None,
        precision: str = "float32",
        speed: Speed | None = None,
    ) -> None:
        speed = self._speed = speed or Speed()
        self.frames = frames
        self.policy = policy
        self.features = features if features is not None else FeatureCache(disk=DEFAULT_DISK if speed.disk else 0)
        self.precision = precision
        network = model.network
        self.reach = Reach(
            memories=network.num_maskmem,
            pointers=network.max_obj_ptrs_in_encoder if network.use_obj_ptrs_in_encoder else 0,
            conditioning=_fewer(network.max_cond_frames_in_attn, speed.conditioning),
            past_pointers_only=network.only_obj_ptrs_in_the_past_for_eval,
            signed_pointers=network.use_signed_tpos_enc_to_obj_ptrs,
            stride=network.memory_temporal_stride_for_eval,
        )
        # The slice prompted last, its crop, and the bytes that this took.
        self._near: tuple[int, Region, int] | None = None
        self._spill = Spill() if speed.disk else None
        self._working = False
        self._take(model)
        # A memory's features and what was projected from them; and what each bank's sweep attended to last.
        self._projections: WeakKeyDictionary[SliceMemory, tuple[torch.Tensor, ProjectedMemory]] = WeakKeyDictionary()
        self._looked_at: WeakKeyDictionary[MemoryBank, set[SliceMemory]] = WeakKeyDictionary()

    def _take(self, model: Model) -> None:
        """Run this network from now on."""
        self.model = model
        network, frames, speed = model.network, self.frames, self._speed
        self._encoder = LeanEncoder(network) if speed.encoder and LeanEncoder.suits(network) else None
        self._encoder_precision = self.precision
        if speed.encoder == "bfloat16":
            self._encoder_precision = "bfloat16"
            if not quick_bfloat16(model.device):
                warnings.warn(
                    "encoder=bfloat16 is for processors with AVX512_BF16 or AMX, and this one has neither; "
                    "leave it out if it takes longer",
                    RuntimeWarning,
                    stacklevel=2,
                )
        # Says in a shared cache which frames are the same. Weak, so that the cache keeps no volume alive.
        self._origin = (
            *(ref(network), ref(frames.volume), frames.axis, frames.window, frames.image_size),
            *(self.precision, self._encoder_precision, self._encoder is not None),
        )
        self._exact = precision_of(model.device, self.precision) == "float32"
        suits = speed.attention and self._exact and ProjectedAttention.suits(network)
        self._attention = ProjectedAttention(network, speed.pool) if suits else None

    # -- frames ----------------------------------------------------------------------------------

    def encode(self, slice_index: int, region: Region) -> EncodedFrame:
        """The encoded region of a slice, from the cache where it is there."""

        def encode() -> EncodedFrame:
            return self._within_memory([None], lambda _: self._encode(slice_index, region))

        return self.features.get((self._origin, slice_index, region), encode)

    def encode_ahead(self, busy: Callable[[], bool]) -> bool:
        """Encode one more slice around the one prompted last, the nearest first, in the same crop.

        Args:
            busy: asked between the parts of the work; once it says so, the slice is given up.

        Returns:
            Whether there is more to do: not at the ends of the volume, far from the prompt, or where a kept slice
            would have to go.
        """
        if self._near is None:
            return False
        middle, region, size = self._near
        for s in (s for d in range(1, _AHEAD + 1) for s in (middle + d, middle - d) if 0 <= s < self.frames.count):
            key = (self._origin, s, region)
            if self.features.holds(key):
                continue
            if self.features.room < size:
                return False
            try:
                self.features.get(key, partial(self._encode, s, region, busy))
            except GivenUpError:
                return True
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                return False  # what nobody has asked for yet is worth no other's memory
            return True
        return False

    def _encode(self, slice_index: int, region: Region, busy: Callable[[], bool] = lambda: False) -> EncodedFrame:
        image = self.frames.tensor(slice_index, region)[None].to(self.model.device)
        with torch.inference_mode(), autocast(self.model.device, self._encoder_precision):
            if self._encoder is not None:
                frame = self._encoder(image, busy)
            else:
                encoded = self.model.network.forward_image(image)
                levels = encoded["backbone_fpn"][-self.model.network.num_feature_levels :]
                frame = EncodedFrame(levels[-1], tuple(levels[:-1]))
        if self._exact:
            # The rest computes in float32.
            frame = EncodedFrame(frame.coarse.float(), tuple(level.float() for level in frame.fine))
        return frame

    # -- one slice -------------------------------------------------------------------------------

    def prompt(
        self,
        prompt: SlicePrompt,
        region: Region,
        previous: SliceMemory | None = None,
        bank: MemoryBank | None = None,
    ) -> SliceMemory:
        """The result of prompting a slice.

        Args:
            prompt: what the user said.
            region: the part of the frame to look at.
            previous: this slice's result so far, whose logits are fed back.
            bank: memories to compare the slice with; None where it is to be seen alone.

        Raises:
            PromptError: the mask vanishes at the network's resolution.
            DeviceError: out of memory, on the CPU too.
        """
        return self._within_memory([prompt], lambda _: self._prompt(prompt, region, previous, bank))

    def merged(self, before: SliceMemory, after: SliceMemory, clicks: Sequence[Click]) -> SliceMemory:
        """An answer to clicks, of which only the parts that they point at are taken over; see `merging`.

        Args:
            before: what the clicks correct.
            after: the answer to them.
            clicks: (row, column, positive) on the frame.
        """
        region, n = after.region, after.low_logits.shape[-1]
        old = _resampled(before.low_logits, before.region, region)
        places = [
            (
                (row - region.row + 0.5) * n / region.rows - 0.5,
                (column - region.column + 0.5) * n / region.columns - 0.5,
                positive,
            )
            for row, column, positive in clicks
        ]
        found = merged_logits(old[0, 0].cpu().numpy(), after.low_logits[0, 0].cpu().numpy(), places)
        if found is None:
            return replace(before, prompted=True, told=after.told, features=None, features_region=None)
        low = torch.from_numpy(found)[None, None].to(after.low_logits.device)
        # An answer that found nothing gives no mask: what is left is of the one before, and so is whether it is there.
        of = before if float(after.object_score) <= 0 and (found > 0).any() else after
        return replace(
            after,
            pointer=of.pointer,
            object_score=of.object_score,
            score=of.score,
            low_logits=self._kept(low),
            mask=pack(_full_logits(low, region, self.frames) > 0),
        )

    def sweep_step(
        self, banks: Sequence[MemoryBank], regions: Sequence[Region], slice_index: int, backward: bool
    ) -> list[SliceMemory]:
        """The results of one slice of a sweep, for several segments whose memories are `banks`.

        Raises:
            DeviceError: out of memory, on the CPU too.
        """
        step = Step(slice_index, backward, self.frames.count, self.reach)
        recalls = []
        for bank, region in zip(banks, regions, strict=True):
            recalls.append(self.policy.recall(bank, step, partial(self.encode_memory, region=region)))
            self._leave_behind(bank, {memory for _, memory in recalls[-1].memories})
        results: dict[int, SliceMemory] = {}
        # Segments whose memories have the same shape go through the network as one batch.
        order = sorted(range(len(banks)), key=lambda n: _shape(recalls[n]))
        for _, group in itertools.groupby(order, key=lambda n: _shape(recalls[n])):
            members = list(group)
            outcome = self._within_memory(
                members,
                lambda some: self._sweep([recalls[n] for n in some], [regions[n] for n in some], slice_index),
            )
            results.update(zip(members, outcome, strict=True))
        return [results[n] for n in range(len(banks))]

    def encode_memory(self, memory: SliceMemory, region: Region) -> torch.Tensor:
        """The encoded memory of a slice as seen in `region`, (1, M, S/16, S/16) bfloat16; kept on the memory."""
        if memory.lasting and memory.features is not None:
            return memory.features
        if memory.features is None or memory.features_region != region:
            memory.features = self._within_memory([memory], lambda _: self._encode_memory(memory, region))
            memory.features_region = region
        return memory.features

    def rest(self) -> None:
        """Release what only a running sweep needs."""
        self._projections.clear()
        self._looked_at.clear()

    # -- results ---------------------------------------------------------------------------------

    def full_logits(self, memory: SliceMemory) -> NDArray[np.float32]:
        """Logits over the whole frame, float32 (rows, columns)."""
        return _full_logits(memory.low_logits, memory.region, self.frames)

    def network_mask(self, mask: NDArray[np.bool_], region: Region) -> torch.Tensor:
        """A user's mask as the network takes it, float (1, 1, S, S), 0 or 1.

        Raises:
            PromptError: nothing of the mask is left at that resolution.
        """
        size = (self.frames.image_size, self.frames.image_size)
        given = torch.from_numpy(np.ascontiguousarray(mask[region.slices], dtype=np.float32))[None, None]
        if given.shape[-2:] != size:
            given = interpolate(given, size=size, mode="bilinear", align_corners=False, antialias=True)
            given = (given >= 0.5).float()
        if mask.any() and not given.any():
            raise PromptError(
                f"the mask is too small to be seen at the network's {size[0]}×{size[1]} pixels; "
                'use crop="auto", a model with a larger image size, or a point'
            )
        return given

    # -- inside ----------------------------------------------------------------------------------

    def _prompt(
        self, prompt: SlicePrompt, region: Region, previous: SliceMemory | None, bank: MemoryBank | None
    ) -> SliceMemory:
        network, device = self.model.network, self.model.device
        frame = self.encode(prompt.slice_index, region)
        self._near = (prompt.slice_index, region, frame.nbytes)
        backward = bank is not None and bank.visited.get(prompt.slice_index, False)
        step = Step(prompt.slice_index, backward, self.frames.count, self.reach)
        with torch.inference_mode(), autocast(device, self.precision):
            if prompt.mask is not None:
                outputs = self._mask_outputs(frame, prompt.mask, region)
            else:
                feedback = None
                if prompt.start is not None:
                    feedback = self._mask_outputs(frame, prompt.start, region)[3]
                elif previous is not None:
                    feedback = _resampled(previous.low_logits, previous.region, region).to(device)
                if feedback is not None:
                    feedback = feedback.clamp(-_FEEDBACK_LIMIT, _FEEDBACK_LIMIT)
                coordinates, labels = _network_points(prompt, region, self.frames.image_size)
                points = {"point_coords": coordinates.to(device), "point_labels": labels.to(device)}
                encode = partial(self.encode_memory, region=region)
                recall = self.policy.recall_first(step) if bank is None else self.policy.recall(bank, step, encode)
                if recall is None:
                    coarse = self._without_memory(frame, prompt.slice_index)
                else:
                    coarse = self._with_memory([frame], [recall], [region])
                outputs = network._forward_sam_heads(
                    backbone_features=coarse,
                    point_inputs=points,
                    mask_inputs=feedback,
                    high_res_features=list(frame.fine) or None,
                    multimask_output=network._use_multimask(bank is None, points),
                )
        result = self._results(outputs, [region], prompt.slice_index, prompt)[0]
        self.policy.offer(result, step, partial(self.encode_memory, region=region))
        return result

    def _mask_outputs(self, frame: EncodedFrame, mask: NDArray[np.bool_], region: Region) -> tuple[Any, ...]:
        given = self.network_mask(mask, region).to(self.model.device)
        return self.model.network._use_mask_as_output(frame.coarse, list(frame.fine) or None, given)

    def _sweep(self, recalls: Sequence[Recall], regions: Sequence[Region], slice_index: int) -> list[SliceMemory]:
        network = self.model.network
        frames = [self.encode(slice_index, region) for region in regions]
        with torch.inference_mode(), autocast(self.model.device, self.precision):
            coarse = self._with_memory(frames, recalls, regions)
            fine = [torch.cat(level) for level in zip(*(f.fine for f in frames), strict=True)]
            outputs = network._forward_sam_heads(
                backbone_features=coarse,
                high_res_features=fine or None,
                multimask_output=network._use_multimask(False, None),
            )
        return self._results(outputs, regions, slice_index, None)

    def _without_memory(self, frame: EncodedFrame, slice_index: int) -> torch.Tensor:
        return self.model.network._prepare_memory_conditioned_features(
            frame_idx=slice_index,
            is_init_cond_frame=True,
            current_vision_feats=[_sequence(frame.coarse)],
            current_vision_pos_embeds=[_sequence(self._frame_position(frame.coarse))],
            feat_sizes=[frame.coarse.shape[-2:]],
            output_dict={},
            num_frames=self.frames.count,
        )

    def _with_memory(
        self, frames: Sequence[EncodedFrame], recalls: Sequence[Recall], regions: Sequence[Region]
    ) -> torch.Tensor:
        """Memory attention (SAM 2, section 4) for a batch whose recalls have one shape: (B, C, S/16, S/16)."""
        network, device = self.model.network, self.model.device
        if self.reach.memories == 0:
            return torch.cat([frame.coarse for frame in frames])
        if self._attention is not None and device.type == "cpu":
            seen = sum(frame.coarse.shape[-2:].numel() for frame in frames)
            if seen >= _MANY_TOKENS or self._attention.pool > 1:
                return self._with_projected(self._attention, frames, recalls, regions)
        tokens, positions = [], []
        for slot in zip(*(recall.memories for recall in recalls), strict=True):
            encoded = [
                self.encode_memory(memory, region).to(device) for (_, memory), region in zip(slot, regions, strict=True)
            ]
            tokens.append(_sequence(torch.cat(encoded).float()))
            when = torch.stack([network.maskmem_tpos_enc[network.num_maskmem - t - 1, 0] for t, _ in slot], dim=1)
            positions.append(_sequence(self._memory_position(encoded[0])) + when)
        pointer_tokens = 0
        if recalls[0].pointers:
            pointers, pointer_positions = self._pointer_tokens(recalls)
            tokens.append(pointers)
            positions.append(pointer_positions)
            pointer_tokens = len(pointers)
        coarse = torch.cat([frame.coarse for frame in frames])
        conditioned = network.memory_attention(
            curr=[_sequence(coarse)],
            curr_pos=[_sequence(self._frame_position(coarse))],
            memory=torch.cat(tokens),
            memory_pos=torch.cat(positions),
            num_obj_ptr_tokens=pointer_tokens,
        )
        return conditioned.permute(1, 2, 0).reshape(coarse.shape)

    def _with_projected(
        self,
        attention: ProjectedAttention,
        frames: Sequence[EncodedFrame],
        recalls: Sequence[Recall],
        regions: Sequence[Region],
    ) -> torch.Tensor:
        network = self.model.network
        batch = len(recalls)
        if recalls[0].pointers:
            pointers, where = self._pointer_tokens(recalls)
        else:
            pointers = where = torch.zeros(0, batch, network.mem_dim)
        remembered = []
        for n, (recall, region) in enumerate(zip(recalls, regions, strict=True)):
            memories = [
                (self._projected(m, region, attention), network.num_maskmem - t - 1) for t, m in recall.memories
            ]
            remembered.append(Remembered(memories, pointers[:, n], where[:, n].expand(-1, network.mem_dim)))
        apart = dict(zip(regions, frames, strict=True))
        coarse = torch.cat([frame.coarse for frame in apart.values()])
        conditioned = attention(
            coarse.flatten(2).transpose(1, 2),
            self._frame_position(coarse[:1])[0].flatten(1).T,
            [list(apart).index(region) for region in regions],
            remembered,
        )
        return conditioned.transpose(1, 2).reshape(batch, *coarse.shape[1:])

    def _projected(self, memory: SliceMemory, region: Region, attention: ProjectedAttention) -> ProjectedMemory:
        features = self.encode_memory(memory, region)
        known = self._projections.get(memory)
        if known is None or known[0] is not features:
            known = (features, attention.project(features, self._memory_position(features)))
            self._projections[memory] = known
        return known[1]

    def _leave_behind(self, bank: MemoryBank, looked_at: set[SliceMemory]) -> None:
        """Release projections that the bank's sweep no longer attends to."""
        for memory in self._looked_at.get(bank, set()) - looked_at:
            self._projections.pop(memory, None)
        self._looked_at[bank] = looked_at

    def _frame_position(self, coarse: torch.Tensor) -> torch.Tensor:
        return self.model.network.image_encoder.neck.position_encoding(coarse).to(coarse)

    def _memory_position(self, encoded: torch.Tensor) -> torch.Tensor:
        return self.model.network.memory_encoder.position_encoding(encoded).to(encoded.device)

    def _pointer_tokens(self, recalls: Sequence[Recall]) -> tuple[torch.Tensor, torch.Tensor]:
        """Object pointers and their temporal positions, (P × C/M, B, M) each."""
        network, device = self.model.network, self.model.device
        batch, width, memory_width = len(recalls), network.hidden_dim, network.mem_dim
        slots = list(zip(*(recall.pointers for recall in recalls), strict=True))
        pointers = torch.stack([torch.cat([m.pointer.to(device) for _, m in slot]) for slot in slots]).float()
        if network.add_tpos_enc_to_obj_ptrs:
            distance = torch.tensor([[d for d, _ in slot] for slot in slots], dtype=torch.float32, device=device)
            dim = width if network.proj_tpos_enc_in_obj_ptrs else memory_width
            where = network.obj_ptr_tpos_proj(get_1d_sine_pe(distance / recalls[0].pointer_span, dim=dim))
        else:
            where = pointers.new_zeros(len(slots), batch, memory_width)
        parts = width // memory_width
        if parts > 1:
            # A pointer is wider than a memory token: it becomes several tokens.
            pointers = pointers.reshape(-1, batch, parts, memory_width).permute(0, 2, 1, 3).flatten(0, 1)
            where = where.repeat_interleave(parts, dim=0)
        return pointers, where

    def _encode_memory(self, memory: SliceMemory, region: Region) -> torch.Tensor:
        network, device = self.model.network, self.model.device
        frame = self.encode(memory.slice_index, region)
        logits = _resampled(memory.low_logits, memory.region, region).to(device)
        if not memory.prompted and network._use_multimask(False, None):
            # sam2 enlarges all candidates of a propagated slice, and rounds otherwise than for one alone.
            logits = logits.expand(-1, network.sam_mask_decoder.num_multimask_outputs, -1, -1)
        with torch.inference_mode(), autocast(device, self.precision):
            size = (self.frames.image_size, self.frames.image_size)
            enlarged = interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, :1]
            encoded, _ = network._encode_new_memory(
                current_vision_feats=[_sequence(frame.coarse)],
                feat_sizes=[frame.coarse.shape[-2:]],
                pred_masks_high_res=enlarged,
                object_score_logits=memory.object_score.to(device),
                is_mask_from_pts=memory.prompted,
            )
            # sam2 keeps memories in bfloat16 whatever the precision; equality needs the same rounding.
            return encoded.to(torch.bfloat16)

    def _results(
        self, outputs: tuple[Any, ...], regions: Sequence[Region], slice_index: int, told: SlicePrompt | None
    ) -> list[SliceMemory]:
        _, _, quality, low_logits, _, pointers, object_scores = outputs
        low_logits, object_scores = low_logits.float(), object_scores.float()
        scores = quality.float().max(dim=-1).values * object_scores[:, 0].sigmoid()
        results = []
        for n, region in enumerate(regions):
            low = low_logits[n : n + 1]
            results.append(
                SliceMemory(
                    slice_index=slice_index,
                    region=region,
                    low_logits=self._kept(low),
                    pointer=pointers[n : n + 1],
                    object_score=object_scores[n : n + 1],
                    score=float(scores[n].clamp(0, 1)),
                    prompted=told is not None,
                    told=told,
                    mask=pack(_full_logits(low, region, self.frames) > 0),
                )
            )
        return results

    def _kept(self, low: torch.Tensor) -> torch.Tensor:
        """Logits, on the disk where they may lie there."""
        return low if self._spill is None else self._spill.store(low)

    def _within_memory(self, items: Sequence[_Item], work: Callable[[Sequence[_Item]], _Result]) -> _Result:
        """Do the work, with a smaller batch or at last on the CPU when the device runs out of memory.

        First caches are freed, then the batch is halved; on the CPU the session has a network of its own, and says so.
        What is asked for within the work takes its memory with it: the work as a whole is done again, so that nothing
        in it stays on a device that was left.
        """
        if self._working:
            return work(items)
        self._working = True
        try:
            return self._retried(items, work)
        finally:
            self._working = False

    def _retried(self, items: Sequence[_Item], work: Callable[[Sequence[_Item]], _Result]) -> _Result:
        try:
            return work(items)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Outside the except block: the traceback would keep the failed step's tensors alive.
        self.features.clear()
        self._projections.clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(items) // 2
        if half:
            first = self._retried(items[:half], work)
            return first + self._retried(items[half:], work)  # type: ignore[operator]
        try:
            return work(items)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if self.model.device.type == "cpu":
                raise DeviceError(
                    f"out of memory on the CPU ({reason}); close other programs or use a smaller model"
                ) from error
        warnings.warn(
            f"{self.model.device} is out of memory ({reason}); going on with the CPU, which is slower",
            RuntimeWarning,
            stacklevel=2,
        )
        self.features.clear()
        self._projections.clear()
        # A copy: other sessions that share the network go on where they are.
        self._take(self.model.copied_to(torch.device("cpu"), f"{self.model.device} ran out of memory"))
        return work(items)


def _fewer(limit: int, wanted: int | None) -> int:
    """The smaller of two limits; -1 and None are none."""
    if wanted is None:
        return limit
    return wanted if limit == -1 else min(limit, wanted)


def _shape(recall: Recall) -> tuple[int, int]:
    return len(recall.memories), len(recall.pointers)


def _sequence(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) as sam2's attention takes it, (H × W, B, C)."""
    return maps.flatten(2).permute(2, 0, 1)


def _network_points(prompt: SlicePrompt, region: Region, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (1, P, 2) as (x, y) in the network's pixels and labels (1, P); a box is its two corners, first.

    The centre of voxel i of W lies at (i + 0.5) · S / W − 0.5; a box from i0 to i1 inclusive covers
    i0 · S / W to (i1 + 1) · S / W − 1, or their mean where that is empty.
    """
    coordinates: list[tuple[float, float]] = []
    labels: list[int] = []
    if prompt.box is not None:
        row0, column0, row1, column1 = prompt.box
        x = _span(column0 - region.column, column1 - region.column, size / region.columns)
        y = _span(row0 - region.row, row1 - region.row, size / region.rows)
        coordinates += [(x[0], y[0]), (x[1], y[1])]
        labels += _BOX_CORNERS
    for row, column, positive in prompt.points:
        x_centre = (column - region.column + 0.5) * size / region.columns - 0.5
        y_centre = (row - region.row + 0.5) * size / region.rows - 0.5
        coordinates.append((x_centre, y_centre))
        labels.append(int(positive))
    return torch.tensor([coordinates], dtype=torch.float32), torch.tensor([labels], dtype=torch.int32)


def _span(first: float, last: float, scale: float) -> tuple[float, float]:
    low, high = first * scale, (last + 1) * scale - 1
    if high < low:
        low = high = (low + high) / 2
    return low, high


def _full_logits(low: torch.Tensor, region: Region, frames: Frames) -> NDArray[np.float32]:
    size = (region.rows, region.columns)
    inside = interpolate(low, size=size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
    if region == frames.whole:
        return inside
    full = np.full((frames.rows, frames.columns), ABSENT, dtype=np.float32)
    full[region.slices] = inside
    return full


def _resampled(low: torch.Tensor, source: Region, target: Region) -> torch.Tensor:
    """Logits of one region on the pixels of another of the same frame; confidently outside where there were none."""
    if source == target:
        return low

    def centres(start: int, extent: int, n: int, source_start: int, source_extent: int) -> torch.Tensor:
        voxel = start + (torch.arange(n, dtype=torch.float32) + 0.5) * extent / n
        return (voxel - source_start) / source_extent * 2 - 1

    n = low.shape[-1]
    y = centres(target.row, target.rows, n, source.row, source.rows)
    x = centres(target.column, target.columns, n, source.column, source.columns)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None].to(low.device)
    shifted = low.clamp(-_FEEDBACK_LIMIT, _FEEDBACK_LIMIT) + _FEEDBACK_LIMIT
    return grid_sample(shifted, grid, mode="bilinear", align_corners=False) - _FEEDBACK_LIMIT
