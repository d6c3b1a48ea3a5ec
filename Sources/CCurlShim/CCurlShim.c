// CCurlShim
