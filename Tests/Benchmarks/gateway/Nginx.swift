import BenchmarkKit

#if canImport(Glibc)
  import Glibc
#endif

/// nginx with the bed's certificates, two workers and one file; where there is no nginx, the reason.
final class Nginx {
  /// Where it listens; nil if it does not run.
  private(set) var port: Int?
  private(set) var absence = ""
  private var child: Child?

  /// - Parameter file: what it serves as `/record.json`.
  init(_ bed: Bed, file: String) throws {
    // contrib/bench names the one it unpacked.
    let program = getenv("JOBLET_BENCH_NGINX").map { String(cString: $0) } ?? "nginx"
    let directory = "\(bed.directory)/nginx"
    let port = try Bed.freePort()
    guard mkdir(directory, 0o755) == 0, mkdir("\(directory)/www", 0o755) == 0 else {
      throw BenchmarkError("\(directory): \(String(cString: strerror(errno)))")
    }
    try writeFile("\(directory)/www/record.json", file)
    let config = "\(bed.directory)/config"
    try writeFile(
      "\(directory)/nginx.conf",
      """
      worker_processes 2;
      daemon off;
      user root;
      pid \(directory)/pid;
      events { worker_connections 4096; }
      http {
        access_log off;
        default_type application/json;
        sendfile on;
        keepalive_timeout 120s;
        keepalive_requests 1000000000;
        client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        server {
          listen 127.0.0.1:\(port) ssl backlog=4096;
          ssl_certificate \(config)/server.pem;
          ssl_certificate_key \(config)/server.key;
          ssl_client_certificate \(config)/ca.pem;
          ssl_verify_client on;
          ssl_protocols TLSv1.3;
          root \(directory)/www;
        }
      }

      """)
    do {
      let log = "\(directory)/log"
      let child = try Child(
        [program, "-p", directory, "-e", log, "-c", "\(directory)/nginx.conf"], output: .file(log), errors: .file(log))
      self.child = child
      let clients = bed.clients.at(port: port)
      try waitUntil("nginx answers", seconds: 10, pause: 100_000) {
        guard child.isRunning else { throw BenchmarkError("nginx ended: \(try readFile(log).prefix(200))") }
        do { return try clients.handshakes("/record.json", connections: 1, seconds: 0.05).count > 0 } catch {
          return false
        }
      }
      self.port = port
    } catch {
      absence = "\(error)"
      stop()
    }
  }

  func stop() {
    child?.stop()
    child = nil
  }
}
