// JobletClient
