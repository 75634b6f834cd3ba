"""What `simcse_tf.report` says of a run: collected, measured, drawn, and set."""
