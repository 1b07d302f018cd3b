//! Process plumbing shared by the servers: configuration, telemetry, serving, clients.
