"""Between tokens and actions: tokenizer, prompts, the message grammar, constrained decoding, rendering."""
