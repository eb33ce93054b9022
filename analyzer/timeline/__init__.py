"""Sources to one timeline: one event per line, clocks aligned, connections, environments and transports tied."""
