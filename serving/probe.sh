#!/usr/bin/env bash
# Exits 0 when the server on this host answers a prediction; "AVAILABLE" is no proof,
# and Kubernetes' own HTTP probes cannot POST. The image of TF Serving has neither curl
# nor Python, but bash, which can open a TCP connection.
#
#   probe.sh [MODEL [REST_PORT]]
set -eu
model=${1:-simcse} port=${2:-8501}

# Sets `code` to the HTTP status of a prediction.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'POST /v1/models/%s:predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        "$model" "${#1}" "$1" >&3
    # Shorter than the caller's timeout, so that the reason is printed.
    IFS=' ' read -r -t 4 _ code _ <&3 || { echo "no answer in 4 seconds" >&2; exit 1; }
    exec 3>&-
}

# A signature of its own has a queue of its own: on a busy server the probe waits for a
# batch or two, and not behind everybody's texts.
ask '{"signature_name": "ready", "instances": ["Is the model ready?"]}'
# An export of an older release, or another model, has no such signature.
[ "$code" != 400 ] || ask '{"instances": ["Is the model ready?"]}'

# A full queue answers 429 or 503. Such a server is busy, not broken: without it the
# others would only get its load too.
case $code in
    200 | 429 | 503) ;;
    *) echo "the prediction was answered with HTTP status $code" >&2; exit 1 ;;
esac
