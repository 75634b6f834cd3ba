# TF Serving with one exported model and its configuration in the image. The version is
# that of the TensorFlow that exported the model. serving/README.md says how to build and
# run it.
ARG TF_SERVING_VERSION=2.20.0
FROM tensorflow/serving:${TF_SERVING_VERSION}

# BASE_DIR of `simcse_tf.export`, with its version directories. models.config names the
# versions that are served.
ARG MODEL_DIR=exports/simcse
ARG CONFIG_DIR=serving
COPY ${MODEL_DIR} /models/simcse
COPY ${CONFIG_DIR}/*.config serving/probe.sh /config/

EXPOSE 8500 8501

# The probe asks for a real prediction, as often as the readiness probe in
# serving/kubernetes does.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=120s --start-interval=2s \
    CMD ["bash", "/config/probe.sh", "simcse", "8501"]

# The image's own script is not used, because it starts the server as a child of bash,
# which does not pass signals on. Flags given to `docker run` are added to these.
ENTRYPOINT ["tensorflow_model_server", \
    "--port=8500", \
    "--rest_api_port=8501", \
    "--model_config_file=/config/models.config", \
    "--model_config_file_poll_wait_seconds=30", \
    "--allow_version_labels_for_unavailable_models=true", \
    "--enable_batching=true", \
    "--batching_parameters_file=/config/batching.config", \
    "--monitoring_config_file=/config/monitoring.config", \
    "--grpc_max_threads=256", \
    "--tensorflow_intra_op_parallelism=1", \
    "--grpc_channel_arguments=grpc.max_connection_age_ms=30000"]
