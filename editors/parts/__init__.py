"""Parts that give the core meaning: language, masks, tokens."""
