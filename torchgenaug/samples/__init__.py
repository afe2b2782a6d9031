"""Converts samples: fields to and from the user's own sample type, seeded transforms, intensity ranges."""
