-- What a proxy writes down is stored like the output of programs: phase `proxy` or `verifier_proxy`.
ALTER TABLE output_streams DROP CONSTRAINT output_streams_stream_check;
ALTER TABLE output_streams ADD CONSTRAINT output_streams_stream_check
    CHECK (stream IN ('stdout', 'stderr', 'audit', 'ledger'));
