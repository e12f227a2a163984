"""Any file a person has, read as rows: formats, layouts, columns, conversations. Runs in the inspection child."""
