"""What a described job leaves: its outputs, its variables, and where they are stored."""
