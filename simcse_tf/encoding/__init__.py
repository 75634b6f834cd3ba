"""Many sentences to one array or file."""
