"""Many machines: Apache Beam pipelines over the exported model or a served one.

Each command of `python -m simcse_tf.pipeline` has a module here. Beam itself is
imported when a pipeline is built, never before.
"""
