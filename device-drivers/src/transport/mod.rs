//! What carries octets between a session and a device; only here is a radio or a port touched.
