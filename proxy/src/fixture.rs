//! An assignment for unit tests: a model host for the agent, package hosts for setup, everything public for verify.

use assay_core::{
    control::{proxy::ProxyAssignment, signature::Signer},
    digest::hex,
};

/// The control plane's side of the sandbox in tests.
pub(crate) fn signer() -> Signer {
    Signer::new(&[7; 32])
}

/// See the module.
pub(crate) fn assignment() -> ProxyAssignment {
    serde_json::from_value(serde_json::json!({
        "sandbox": "01900000-0000-7000-8000-000000000001",
        "run": "01900000-0000-7000-8000-000000000002",
        "fence": 1,
        "public_key": signer().public_key(),
        "mac_key": hex(&signer().mac_key()),
        "egress": {
            "setup": { "mode": "hosts", "hosts": ["pypi.org", "*.example.net"] },
            "agent": { "mode": "none" },
            "verify": { "mode": "public" },
        },
        "phase": "agent",
        "purses": { "agent": {
            "budget": "1",
            "models": ["test/small", "test/large"],
            "max_requests": 100,
            "max_tokens": 1_000_000,
            "max_parallel": 16,
        } },
        "upstreams": [{
            "host": "models.example.com",
            "base_path": "/api/v1",
            "dialect": "open_router",
            "models": ["test/small", "test/large", "test/unpriced"],
            "credential": "sk-real",
        }],
        "prices": {
            "test/small": { "input": "0.000001", "output": "0.000002", "context_tokens": 100_000, "max_output_tokens": 4_000 },
            "test/large": { "input": "0.00001", "output": "0.00002", "context_tokens": 200_000, "max_output_tokens": 8_000 },
        },
        "price_version": "test",
        "resolvers": [],
    }))
    .unwrap()
}
