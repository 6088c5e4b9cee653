"""Train: on tables, through TRL or a command of the user's; and the embedded model."""
