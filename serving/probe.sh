#!/usr/bin/env bash
# Exits 0 when the server on this host answers a prediction; "AVAILABLE" is no proof,
# and Kubernetes' own HTTP probes cannot POST. The image of TF Serving has neither curl
# nor Python, but bash, which can open a TCP connection.
#
#   probe.sh [MODEL [REST_PORT]]
set -eu
model=${1:-simcse} port=${2:-8501}

# Sets `code` to the HTTP status of a prediction; fails if none comes in some seconds.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'POST /v1/models/%s:predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        "$model" "${#1}" "$1" >&3
    IFS=' ' read -r -t "$2" _ code _ <&3
}
text='"instances": ["Is the model ready?"]'

# A signature of its own has a queue of its own: on a busy server the probe waits for a
# batch or two, and not behind everybody's texts. Together with the second request it is
# shorter than the caller's timeout, so that the reason is printed.
ask "{\"signature_name\": \"ready\", $text}" 3 ||
    { echo "no answer in 3 seconds" >&2; exit 1; }
ready=$code

# TF Serving lets an empty batch wait for company, in the queue of its signature, and some
# hundred of them take all threads: a text frees them. Its answer counts only where there
# is no such signature, as in an export of an older release.
seconds=1
[ "$ready" != 400 ] || seconds=3
ask "{$text}" "$seconds" || code="none in $seconds seconds"
[ "$ready" != 400 ] || ready=$code

# A full queue answers 429 or 503. Such a server is busy, not broken: without it the
# others would only get its load too.
case $ready in
    200 | 429 | 503) ;;
    *) echo "the prediction was answered with HTTP status $ready" >&2; exit 1 ;;
esac
