"""What decodes for us: requests and answers as records, servers over HTTP, and pairs of them."""
