"""One file per command: it checks what was typed and hands on; nothing heavy is imported before a command runs."""
