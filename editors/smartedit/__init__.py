"""SmartEdit: a language model reads the picture and the instruction, and drives the UNet (arXiv 2312.06739)."""
