"""Which modules of the LoRA feed which module of the target network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from ..errors import LoraFileError
from ..lora.family import named_modules, same_weight
from ..lora.keys import HOST_CLIPS
from ..lora.read import LoraFile, LoraModule
from ..model.network import PART_TITLES, TE1, TE2, TEXT_PROJECTION, UNET, Module, Network, Role
from ..model.weight_places import HOST_TOWERS
from ..seeds import generator

Group = tuple[LoraModule, ...]
Plan = dict[str, tuple[Group, ...]]
"""Target key to groups of the LoRA's modules. A group is blocks that stand side by side, of which
``depth`` makes one; several groups (both text encoders onto one) are added."""

KeyPlan = dict[str, tuple[tuple[str, ...], ...]]
"""The same with the source network's keys, whether or not the LoRA has them."""

_STAGES = ("edge", "down", "mid", "up", "text")


def make_plan(
    mapping: str, lora: LoraFile, source: Network, target: Network, *, seed: int, te2: str
) -> Plan:
    """Say for every target module which of the source network's modules feed it.

    Args:
        mapping: one of :data:`.recipe.MAPPINGS`.
        lora: the LoRA; ``by_name`` and ``strict`` ask it for its own names.
        source: the network it was trained on.
        target: the network it goes to.
        seed: of ``shuffled``.
        te2: one of :data:`.recipe.SECOND_ENCODER`.

    Returns:
        The plan; target modules that nothing feeds are left out.

    Raises:
        LoraFileError: for ``strict`` with another family.
    """
    if mapping == "strict" and source.family is not target.family:
        raise LoraFileError(
            f"{lora.title} is a LoRA for {source.family.name} and the model is "
            f"{target.family.name}; load a {source.family.name} model, or choose another mapping "
            "than strict to misplace it on purpose."
        )
    if mapping in ("by_name", "strict"):
        return {
            key: ((module,),)
            for key, module in namesakes(mapping, lora, target).items()
            if same_weight(module, target.modules[key])
        }
    pick = _by_depth if mapping == "by_depth" else _by_role
    wanted = _lookup(source, target, pick, te2)
    plan = _only_trained(wanted, named_modules(lora, source), target)
    return _shuffled(plan, target, seed) if mapping == "shuffled" else plan


def namesakes(mapping: str, lora: LoraFile, target: Network) -> dict[str, LoraModule]:
    """Return the LoRA's modules by the target's key of the same name, whatever their shape.

    ``by_name`` knows the names that ComfyUI's loader knows, other mappings every spelling.
    """
    if mapping != "by_name":
        return named_modules(lora, target)
    known = host_names(target)
    return {known[name]: module for name, module in lora.modules.items() if name in known}


def host_names(network: Network) -> dict[str, str]:
    """Return every name under which ComfyUI's loader knows a module, and the module's key.

    Source: ComfyUI comfy/lora.py, ``model_lora_keys_unet`` and ``model_lora_keys_clip``.
    """
    names: dict[str, str] = {}
    for key, module in network.modules.items():
        spelled = _host_unet_names if module.role.part == UNET else _host_text_names
        names |= dict.fromkeys(spelled(module), key)
    return names


def bucket(index: int, count: int, sources: int) -> range:
    """Return which of ``sources`` places in a row fall to place ``index`` of ``count``.

    With more sources than places every source falls to one place; with fewer, several places
    share one. Equal counts give the place itself.
    """
    first = index * sources // count
    return range(first, max(first + 1, (index + 1) * sources // count))


def _host_unet_names(module: Module) -> list[str]:
    ldm = module.ldm
    names = [f"lora_unet_{ldm.replace('.', '_')}", f"diffusion_model.{ldm}"]
    # The host knows SDXL's vector embedding by two of diffusers' names.
    for name in {module.diffusers, module.diffusers.replace("add_emb", "class_emb")}:
        processor = name.replace(".to_", ".processor.to_")
        if processor.endswith(".to_out.0"):
            processor = processor[:-2]
        flat = name.replace(".", "_")
        names += [f"lora_unet_{flat}", f"lycoris_{flat}", processor, f"unet.{processor}"]
    return names


def _host_text_names(module: Module) -> list[str]:
    name, flat = module.ldm, module.ldm.replace(".", "_")
    part = module.role.part
    clips = [f"{HOST_CLIPS}{at.prefix}{name}" for at in HOST_TOWERS.values() if at.part == part]
    if name == TEXT_PROJECTION:
        return [f"lora_te2_{flat}", *clips]
    if part == TE2:
        return [f"lora_te2_{flat}", f"text_encoder_2.{name}", *clips]
    return [f"lora_te_{flat}", f"lora_te1_{flat}", f"text_encoder.{name}", *clips]


Row = list[Module]
Pick = Callable[[Module, Row, Row], list[Module]]
"""(target module, target modules of its job, source modules of that job) to the sources."""


def _lookup(source: Network, target: Network, pick: Pick, te2: str) -> KeyPlan:
    rows = _rows(source.modules.values())
    target_rows = _rows(target.modules.values())
    plan: KeyPlan = {}
    for key, module in target.modules.items():
        groups = []
        for part in _source_parts(module.role.part, source, target, te2):
            row = rows.get((part, module.role.job), [])
            wanted = pick if part == module.role.part else _by_depth
            if row:
                chosen = wanted(module, target_rows[module.role.part, module.role.job], row)
                groups.append(tuple(one.key for one in chosen))
        if any(groups):
            plan[key] = tuple(group for group in groups if group)
    return plan


def _source_parts(part: str, source: Network, target: Network, te2: str) -> list[str]:
    parts = [part]
    if te2 == "by_layer_depth":
        if part == TE1 and TE2 in source.parts and TE2 not in target.parts:
            parts.append(TE2)
        if part == TE2 and TE2 not in source.parts:
            parts = [TE1]
    return parts


def _rows(modules: Iterable[Module]) -> dict[tuple[str, str], Row]:
    """Group modules by part and job, each in the order in which the network works."""
    rows: dict[tuple[str, str], Row] = {}
    for module in sorted(modules, key=_working_order):
        rows.setdefault((module.role.part, module.role.job), []).append(module)
    return rows


def _working_order(module: Module) -> tuple[int, int, int, int]:
    role = module.role
    level = -role.level if role.stage == "up" else role.level
    return (_STAGES.index(role.stage), level, role.site, role.block)


def _by_depth(module: Module, row: Row, sources: Row) -> list[Module]:
    return [sources[i] for i in bucket(row.index(module), len(row), len(sources))]


def _by_role(module: Module, row: Row, sources: Row) -> list[Module]:
    """Take the same stage and nearest level; sites, then blocks, by their place in the row."""
    role = module.role
    own = [m for m in row if _place(m.role) == _place(role)]
    own_sites = sorted({m.role.site for m in own})
    near = _nearest(role, sources)
    sites = sorted({m.role.site for m in near})
    if not sites:
        return []
    taken = {sites[i] for i in bucket(own_sites.index(role.site), len(own_sites), len(sites))}
    blocks = [m for m in near if m.role.site in taken]
    own_blocks = [m for m in own if m.role.site == role.site]
    return [blocks[i] for i in bucket(own_blocks.index(module), len(own_blocks), len(blocks))]


def _place(role: Role) -> tuple[str, int]:
    return role.stage, role.level


def _nearest(role: Role, sources: Row) -> Row:
    """Return the sources of the same stage at the nearest level.

    A network without attention in the middle (SSD-1B, Vega) lends the end of its way down.
    """
    stage = [m for m in sources if m.role.stage == role.stage]
    if not stage and role.stage == "mid":
        down = [m for m in sources if m.role.stage == "down"]
        last = [(m.role.level, m.role.site) for m in down][-1:]
        return [m for m in down if (m.role.level, m.role.site) in last]
    if not stage:
        return []
    level = min((m.role.level for m in stage), key=lambda level: (abs(level - role.level), level))
    return [m for m in stage if m.role.level == level]


def _only_trained(wanted: KeyPlan, trained: Mapping[str, LoraModule], target: Network) -> Plan:
    """Put the LoRA's modules in place of keys; leave out those it lacks, or of another kernel."""
    plan: Plan = {}
    for key, groups in wanted.items():
        kernel = target.modules[key].kernel
        found = (tuple(trained[name] for name in group if name in trained) for group in groups)
        fitting = (tuple(m for m in group if m.shape[2:] == kernel) for group in found)
        kept = tuple(group for group in fitting if group)
        if kept:
            plan[key] = kept
    return plan


def _shuffled(plan: Plan, target: Network, seed: int) -> Plan:
    """Permute what feeds the target's modules among those of the same shape."""
    shapes: dict[tuple[object, ...], list[str]] = {}
    for key in plan:
        module = target.modules[key]
        shapes.setdefault((module.role.part, module.shape[:2], module.kernel), []).append(key)
    stream = generator(seed, "transfer shuffle")
    shuffled: Plan = {}
    for keys in shapes.values():
        order = torch.randperm(len(keys), generator=stream).tolist()
        shuffled |= {key: plan[keys[index]] for key, index in zip(keys, order, strict=True)}
    return {key: shuffled[key] for key in plan}


def unused_reason(
    module: LoraModule, key: str | None, namesake: Module | None, source: Network, target: Network
) -> str:
    """Say in a few words why a module of the LoRA feeds nothing.

    Args:
        module: the module.
        key: its key in the source network, None when that does not know it.
        namesake: the target's module of the same name, where the mapping goes by names.
        source: the network the LoRA is for.
        target: the network it goes to.
    """
    if namesake is not None:
        theirs = (namesake.n_out, namesake.n_in, *namesake.kernel)
        return f"shape: {_times(module.shape)} in the LoRA, {_times(theirs)} in the target"
    if key is None:
        return f"not a module of {source.title}"
    role = source.modules[key].role
    if role.part not in target.parts:
        return f"no {PART_TITLES[role.part]} in the target"
    same_job = [m.role for m in target.modules.values() if m.role.job == role.job]
    if not any(other.part == role.part for other in same_job):
        return f"no module of the target does {role.job}"
    if role.stage == "mid" and not any(other.stage == "mid" for other in same_job):
        return "no attention in the middle of the target"
    return "nothing in the target stands at its place"


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)
