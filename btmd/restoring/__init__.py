"""Ways back: restore, factory reset, falling back, and what each of them needs."""
