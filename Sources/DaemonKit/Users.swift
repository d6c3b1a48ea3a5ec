import Glibc

/// The numeric ID of a system user (getpwnam_r(3)). Look it up once at start: it may ask the network.
/// - Throws: ``DaemonError`` when there is no such user.
public func userID(named name: String) throws -> UInt32 {
  var entry = passwd()
  var found: UnsafeMutablePointer<passwd>?
  var size = 4096
  while true {
    var buffer = [CChar](repeating: 0, count: size)
    let code = getpwnam_r(name, &entry, &buffer, size, &found)
    if code == ERANGE, size < 1 << 20 {
      size *= 4
      continue
    }
    guard code == 0 else { throw DaemonError.system("looking up user '\(name)'", code) }
    guard found != nil else {
      throw DaemonError("there is no user '\(name)'; contrib/install makes it (units/joblet.sysusers)")
    }
    return entry.pw_uid
  }
}

/// The users whose processes may connect to a listener, by what `SO_PEERCRED` says of them.
///
/// A socket made by systemd takes exactly the named users. One made with `--listen` is a developer's: it takes the
/// process's own user too, and users that do not exist on that machine are left out.
/// - Throws: ``DaemonError`` when the installed service names a user that does not exist.
public func allowedPeers(_ names: [String], for listener: Listener) throws -> Set<UInt32> {
  var users: Set<UInt32> = []
  for name in names {
    do {
      users.insert(try userID(named: name))
    } catch  where !listener.isInherited {
      continue
    }
  }
  if !listener.isInherited { users.insert(geteuid()) }
  return users
}
