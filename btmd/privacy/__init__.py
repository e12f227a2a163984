"""Personal data in texts: finding it, and putting placeholders in its place. Pure: texts in, findings out."""
