"""Every preset as a typed instance, one file per experiment."""
