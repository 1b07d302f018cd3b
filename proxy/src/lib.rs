//! The egress proxy beside each agent: names, models, money.
