//! SIPp as softswitch and as gateways.
