//! The block-hash chain that both planes compute alike: `h = xxh3(block, seed = previous h)` over full blocks of the
//! rendered prompt's text bytes, begun with a seed salted by model, adapter, the request's `cache_salt` and the fleet.
