"""The nerfstudio method: iterative dataset updates with mask-aware editors."""
