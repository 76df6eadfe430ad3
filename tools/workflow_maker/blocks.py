"""Parts that the shipped workflows have in common."""

from __future__ import annotations

from .bases import Base
from .flow import Group, Node, Output


class SampleRows:
    """Pictures of one prompt per row, from left to right, without a wire that crosses another."""

    PITCH = 680
    """From one row to the next, in pixels."""

    def __init__(self, group: Group, base: Base):
        """Open the columns.

        Args:
            group: The box they stand in.
            base: What the pictures are drawn with.
        """
        self.base = base
        self.columns = [group.column(width) for width in (320, 340, 320, 200, 420)]
        self.count = 0

    def add(
        self,
        label: str,
        prompt: str,
        prefix: str,
        *,
        model: Output | None = None,
        clip: Output | None = None,
        latent: dict[str, int],
        sampling: dict[str, object],
    ) -> Node:
        """Add a row; what is not given comes from a loader of its own.

        Args:
            label: Behind the title of each node.
            prompt: The text.
            prefix: Of the files.
            model: The MODEL to sample with.
            clip: The CLIP to read the prompt with.
            latent: Inputs of Empty Latent Image.
            sampling: Inputs of KSampler.

        Returns:
            The node that saves the pictures.
        """
        top = self.count * self.PITCH
        self.count += 1
        first, second, third, fourth, fifth = self.columns
        # Wires that come from the left pass above the loader, which stands the lower.
        lowered = 60 if model and not clip else 380 if clip else 0
        base = self.base.loader(first, f"Base model · {label}", top=top + lowered)
        clip = clip or base["CLIP"]
        positive = second.add(
            "CLIPTextEncode",
            f"Prompt · {label}",
            top=top + 60,
            tall=150,
            text=prompt,
            clip=clip,
        )
        if model:
            model = model.passing_over(*([base, positive] if lowered == 60 else [positive]))
        negative = second.add("CLIPTextEncode", "No negative prompt", tall=90, clip=clip)
        empty = second.add("EmptyLatentImage", f"Size · {label}", **latent)
        sampler = third.add(
            "KSampler",
            f"Sample · {label}",
            top=top,
            model=model or base["MODEL"],
            positive=positive["CONDITIONING"].turning(14),
            negative=negative["CONDITIONING"].turning(24),
            latent_image=empty["LATENT"].turning(34),
            **sampling,
        )
        decoded = fourth.add(
            "VAEDecode",
            f"Decode · {label}",
            top=top,
            samples=sampler["LATENT"],
            vae=base["VAE"].passing_under(empty, sampler),
        )
        return fifth.add(
            "SaveImage",
            f"Pictures · {label}",
            top=top,
            tall=420,
            images=decoded["IMAGE"],
            filename_prefix=prefix,
        )
