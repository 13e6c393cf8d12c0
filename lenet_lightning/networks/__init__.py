"""Pure ``torch.nn`` networks; nothing here knows of Lightning."""
