#!/bin/sh
set -e
cp /solution/server.py /app/server.py
# In a session of its own, with nothing of the agent's streams: it outlives this script.
setsid python3 /app/server.py > /app/server.log 2>&1 < /dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if python3 -c "import socket; socket.create_connection(('127.0.0.1', 443), 1).close()" 2>/dev/null; then exit 0; fi
  sleep 0.3
done
cat /app/server.log
exit 1
