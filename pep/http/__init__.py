"""The HTTP enforcement proxy: requests and responses of HTTP/1.1, WebSocket and SSE streams, MCP over HTTP."""
