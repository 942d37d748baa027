"""The shared editing core: tensors in, tensors out. It knows no editor and no prompt grammar."""
