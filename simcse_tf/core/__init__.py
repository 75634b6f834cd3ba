"""What every part stands on: errors, exit codes, files written whole."""
