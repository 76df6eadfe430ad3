"""Parts that the shipped workflows have in common."""

from __future__ import annotations

from .flow import Group, Node, Output


class SampleRows:
    """Pictures of one prompt per row, from left to right, by the host's own nodes."""

    PITCH = 680
    """From one row to the next, in pixels."""

    def __init__(self, group: Group, base: Node):
        """Open the columns.

        Args:
            group: The box they stand in.
            base: The loader of what the pictures are drawn with.
        """
        self.base = base
        self.columns = [group.column(width) for width in (340, 320, 200, 420)]
        self.count = 0

    def add(
        self,
        label: str,
        prompt: str,
        prefix: str,
        *,
        model: Output,
        latent: dict[str, int],
        sampling: dict[str, object],
    ) -> Node:
        """Add a row.

        Args:
            label: Behind the title of each node.
            prompt: The text.
            prefix: Of the files.
            model: The MODEL to sample with.
            latent: Inputs of Empty Latent Image.
            sampling: Inputs of KSampler.

        Returns:
            The node that saves the pictures.
        """
        top = self.count * self.PITCH
        self.count += 1
        words, third, fourth, fifth = self.columns
        clip = self.base["CLIP"]
        positive = words.add(
            "CLIPTextEncode", f"Prompt · {label}", top=top, tall=150, text=prompt, clip=clip
        )
        negative = words.add("CLIPTextEncode", "No negative prompt", tall=90, clip=clip)
        empty = words.add("EmptyLatentImage", f"Size · {label}", **latent)
        sampler = third.add(
            "KSampler",
            f"Sample · {label}",
            top=top,
            model=model,
            positive=positive["CONDITIONING"],
            negative=negative["CONDITIONING"],
            latent_image=empty["LATENT"],
            **sampling,
        )
        decoded = fourth.add(
            "VAEDecode",
            f"Decode · {label}",
            top=top,
            samples=sampler["LATENT"],
            vae=self.base["VAE"],
        )
        return fifth.add(
            "SaveImage",
            f"Pictures · {label}",
            top=top,
            tall=420,
            images=decoded["IMAGE"],
            filename_prefix=prefix,
        )
