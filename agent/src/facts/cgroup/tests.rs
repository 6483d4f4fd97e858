//! Limits of control groups of both versions, read from folders that look like a kernel's.

use tempfile::TempDir;

use super::*;

const GIB: u64 = 1 << 30;

/// A process and its control groups, as a kernel would show them below a folder.
struct Process(TempDir);

impl Process {
    /// `groups` is its file `cgroup`. Each mount is a file system's type, options, root, and point.
    fn new(groups: &str, mounts: &[(&str, &str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().display();
        let line = |(kind, options, root, point): &(&str, &str, &str, &str)| {
            format!("30 23 0:26 {root} {base}/{point} rw,nosuid - {kind} {kind} rw,{options}\n")
        };
        fs::write(folder.path().join("cgroup"), groups).unwrap();
        fs::write(folder.path().join("mountinfo"), mounts.iter().map(line).collect::<String>()).unwrap();
        Self(folder)
    }

    fn write(&self, group: &str, files: &[(&str, &str)]) {
        let folder = self.0.path().join(group);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }

    fn cgroups(&self) -> Cgroups {
        Cgroups::new(self.0.path())
    }
}

const UNIFIED: &[(&str, &str, &str, &str)] = &[("cgroup2", "nsdelegate", "/", "cg")];

/// A quarter of 1 GiB, and as much cache.
const MEMORY: &[(&str, &str)] = &[
    ("memory.max", "1073741824"),
    ("memory.current", "536870912"),
    ("memory.stat", "anon 268435456\nactive_file 1\ninactive_file 268435456"),
];

#[test]
fn memory_is_of_the_containers_limit_without_its_cache() {
    let own = Process::new("0::/\n", UNIFIED);
    own.write("cg", MEMORY);
    assert_eq!(own.cgroups().memory_share(8 * GIB), Some(0.25));
    assert_eq!(own.cgroups().memory_share(GIB), None, "the host has no more than the limit");

    let seen_from_the_host = Process::new("0::/kubepods/pod1/c1\n", UNIFIED);
    seen_from_the_host.write("cg/kubepods/pod1", MEMORY);
    seen_from_the_host.write("cg/kubepods/pod1/c1", &[("memory.max", "max"), ("memory.current", "1")]);
    assert_eq!(seen_from_the_host.cgroups().memory_share(8 * GIB), Some(0.25), "the limit of the pod counts");
}

#[test]
fn of_several_memory_limits_the_nearest_counts() {
    let process = Process::new("0::/outer/inner\n", UNIFIED);
    process.write("cg/outer", MEMORY);
    for (limit, share) in [("300000000", 0.5), ("2000000000", 0.25)] {
        process.write("cg/outer/inner", &[("memory.max", limit), ("memory.current", "150000000")]);
        assert_eq!(process.cgroups().memory_share(8 * GIB), Some(share), "{limit}");
    }
}

#[test]
fn memory_of_version_1_is_found_with_a_namespace_and_without() {
    let hierarchies = "9:name=systemd:/docker/1\n4:memory:/docker/1\n1:cpu,cpuacct:/docker/1\n0::/docker/1\n";
    for (root, group) in [("/docker/1", "m"), ("/", "m/docker/1"), ("/elsewhere", "m")] {
        let mounts = &[
            ("cgroup2", "", "/", "u"),
            ("cgroup", "cpu,cpuacct", root, "c"),
            ("cgroup", "memory", root, "m"),
        ];
        let process = Process::new(hierarchies, mounts);
        process.write(
            group,
            &[
                ("memory.limit_in_bytes", "1000000000"),
                ("memory.usage_in_bytes", "900000000"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 150000000"),
            ],
        );
        assert_eq!(process.cgroups().memory_share(8 * GIB), Some(0.75), "{root}");
        process.write(group, &[("memory.limit_in_bytes", "9223372036854771712")]);
        assert_eq!(process.cgroups().memory_share(8 * GIB), None, "{root}: that is no limit");
    }
}

#[test]
fn a_limit_of_the_agents_own_unit_is_not_the_hosts() {
    for group in ["system.slice/planasonix-agent.service", "user.slice/session-3.scope", "init.scope"] {
        let process = Process::new(&format!("0::/{group}\n"), UNIFIED);
        process.write(&format!("cg/{group}"), MEMORY);
        assert_eq!(process.cgroups().memory_share(8 * GIB), None, "{group}");
        process.write("cg", MEMORY);
        assert_eq!(
            process.cgroups().memory_share(8 * GIB),
            Some(0.25),
            "{group}: in a container with systemd"
        );
    }
}

#[test]
fn processors_are_of_the_quota() {
    let process = Process::new("0::/\n", UNIFIED);
    process.write("cg", &[("cpu.max", "50000 100000"), ("cpu.stat", "usage_usec 2000000\nuser_usec 1")]);
    assert_eq!(process.cgroups().cpu_limit(4), Some((0.5, 2.0)));
    process.write("cg", &[("cpu.max", "max 100000")]);
    assert_eq!(process.cgroups().cpu_limit(4), None);
    process.write("cg", &[("cpu.max", "400000 100000")]);
    assert_eq!(process.cgroups().cpu_limit(4), None, "as many as the host has");
    process.write("cg", &[("cpuset.cpus.effective", "0-1,3")]);
    assert_eq!(process.cgroups().cpu_limit(8), Some((3.0, 2.0)));
    assert_eq!(process.cgroups().cpu_limit(3), None);
}

#[test]
fn processors_of_version_1_are_of_the_quota() {
    let mounts = &[
        ("cgroup", "cpu", "/docker/1", "c"),
        ("cgroup", "cpuacct", "/docker/1", "a"),
        ("cgroup", "cpuset", "/docker/1", "s"),
    ];
    let process = Process::new("3:cpuset:/docker/1\n2:cpuacct:/docker/1\n1:cpu:/docker/1\n", mounts);
    process.write("c", &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")]);
    process.write("a", &[("cpuacct.usage", "3000000000")]);
    process.write("s", &[("cpuset.effective_cpus", "0-3")]);
    assert_eq!(process.cgroups().cpu_limit(4), Some((1.5, 3.0)));
    process.write("c", &[("cpu.cfs_quota_us", "-1")]);
    assert_eq!(process.cgroups().cpu_limit(4), None);
    assert_eq!(process.cgroups().cpu_limit(16), Some((4.0, 3.0)));
}

#[test]
fn the_load_is_what_was_used_since_the_sample_before() {
    let process = Process::new("0::/\n", UNIFIED);
    let mut cgroups = process.cgroups();
    assert_eq!(cgroups.cpu_load(4), CpuLoad::Unlimited);
    process.write("cg", &[("cpu.max", "50000 100000"), ("cpu.stat", "usage_usec 0")]);
    assert_eq!(cgroups.cpu_load(4), CpuLoad::Unknown);
    std::thread::sleep(std::time::Duration::from_millis(200));
    process.write("cg", &[("cpu.stat", "usage_usec 20000")]);
    let CpuLoad::Share(share) = cgroups.cpu_load(4) else { panic!("no load") };
    assert!(share > 0.0 && share <= 0.2, "{share}");
    process.write("cg", &[("cpu.stat", "usage_usec 1")]);
    assert_eq!(cgroups.cpu_load(4), CpuLoad::Unknown, "another group");
}

#[test]
fn files_that_make_no_sense_are_no_limit() {
    assert_eq!(Process::new("", &[]).cgroups().memory_share(GIB), None);
    let process = Process::new("0::\nnonsense\n", &[("cgroup2", "", "/", "cg")]);
    process.write("cg", &[("memory.max", "0"), ("cpu.max", "1"), ("cpuset.cpus.effective", "3-1,x")]);
    let mut cgroups = process.cgroups();
    assert_eq!((cgroups.memory_share(GIB), cgroups.cpu_load(4)), (None, CpuLoad::Unlimited));
}

#[test]
fn this_processs_own_groups_are_found() {
    let cgroups = Cgroups::of_this_process();
    for controller in ["memory", "cpu"] {
        if let Some(hierarchy) = cgroups.hierarchy(controller) {
            let own = hierarchy.folders.first().unwrap();
            assert!(own.join("cgroup.procs").exists(), "{}", own.display());
        }
    }
}
