"""What each proxy is told: the same backend, one worker, TLS 1.3 without resumption, no logs of requests."""

import json

from load import MODEL, SPLICED


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def assay(root, backend, budget):
    with open(root, encoding="utf-8") as file:
        root_pem = file.read()
    plenty = 10**15
    return json.dumps({
        "sandbox": "01900000-0000-7000-8000-000000000001",
        "run": "01900000-0000-7000-8000-000000000002",
        "fence": 1,
        # The point of a curve that everybody knows: nobody signs anything here.
        "public_key": "58" + "66" * 31,
        "mac_key": "00" * 32,
        "egress": {"agent": {"mode": "hosts", "hosts": [SPLICED]}},
        "phase": "agent",
        "purses": {"agent": {
            "budget": budget, "models": ["test/small"], "max_requests": plenty, "max_tokens": plenty, "max_parallel": 4096,
        }},
        "upstreams": [{
            "host": MODEL, "base_path": "/api/v1", "dialect": "open_router", "models": ["test/small"],
            "credential": "sk-bench", "address": f"127.0.0.1:{backend}", "ca_pem": root_pem,
        }],
        "prices": {"test/small": {"input": "0.000001", "output": "0.000002", "context_tokens": 100_000, "max_output_tokens": 4_000}},
        "price_version": "bench",
        "resolvers": [],
        "fixed_addresses": {SPLICED: f"127.0.0.1:{backend}"},
    })


def nginx(load, folder, backend, stream_module):
    return f"""
load_module {stream_module};
daemon off;
user root;
pid {folder}/nginx.pid;
worker_processes 1;
error_log /dev/null crit;
events {{ worker_connections 8192; }}
stream {{
  map $ssl_preread_server_name $upstream {{ {SPLICED} 127.0.0.1:{backend}; }}
  server {{
    listen 127.0.0.1:8441;
    ssl_preread on;
    tcp_nodelay on;
    proxy_pass $upstream;
  }}
}}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:8442 ssl;
    server_name {MODEL};
    ssl_certificate {load.certificates}/chain.pem;
    ssl_certificate_key {load.certificates}/key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_tickets off;
    ssl_session_cache off;
    location / {{
      proxy_pass https://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host {MODEL};
      proxy_buffering off;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_server_name on;
      proxy_ssl_name {MODEL};
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {load.root};
    }}
  }}
}}
"""


def haproxy(load, backend):
    return f"""
global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-server-options ssl-min-ver TLSv1.3
  tune.ssl.cachesize 0
defaults
  timeout connect 10s
  timeout client 600s
  timeout server 600s
frontend splice
  mode tcp
  bind 127.0.0.1:8451
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  use_backend spliced if {{ req.ssl_sni -i {SPLICED} }}
backend spliced
  mode tcp
  server backend 127.0.0.1:{backend}
frontend terminate
  mode http
  bind 127.0.0.1:8452 ssl crt {load.certificates}/server.pem alpn http/1.1
  default_backend terminated
backend terminated
  mode http
  http-reuse always
  server backend 127.0.0.1:{backend} ssl verify required ca-file {load.root} sni str({MODEL}) alpn http/1.1
"""


def litellm(backend, budget):
    """Without a database, the budget that it can hold is that of a deployment."""
    limits = f"\n      max_budget: {budget}\n      budget_duration: 1d" if budget else ""
    return f"""
model_list:
  - model_name: test/small
    litellm_params:
      model: openai/test/small
      api_base: https://127.0.0.1:{backend}/api/v1
      api_key: sk-bench
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000002{limits}
litellm_settings:
  num_retries: 0
  request_timeout: 600
router_settings:
  num_retries: 0
  disable_cooldowns: true
general_settings:
  dangerously_permit_weak_or_unset_master_key: true
"""
