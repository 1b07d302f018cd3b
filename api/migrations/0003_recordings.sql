-- Model calls with their bodies, where the policy consents: a further stream of phase `proxy` and `verifier_proxy`.
ALTER TABLE output_streams DROP CONSTRAINT output_streams_stream_check;
ALTER TABLE output_streams ADD CONSTRAINT output_streams_stream_check
    CHECK (stream IN ('stdout', 'stderr', 'audit', 'ledger', 'recording'));
