"""The embedded model set: small weights in the layout of the real ones."""
