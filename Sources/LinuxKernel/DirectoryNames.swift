import Glibc

extension Kernel {
  /// The names in a directory, without `.` and `..`, in no order.
  public static func names(in directory: String) throws(Errno) -> [String] {
    guard let handle = opendir(directory) else { throw Errno(errno, "opendir", directory) }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}
