#!/bin/sh
# Installs or upgrades the Planasonix agent on this host. Run again, it changes nothing that is already right.
set -eu
umask 022

readonly user=planasonix-agent
readonly home=/opt/planasonix-agent
readonly agent=$home/planasonix-agent
readonly link=/usr/local/bin/planasonix-agent
readonly conf=/etc/planasonix-agent/agent.conf
readonly ca=/etc/planasonix-agent/ca.pem
readonly state=/var/lib/planasonix-agent
readonly runtime=/run/planasonix-agent
readonly logs=/var/log/planasonix-agent
readonly log=/var/log/planasonix-agent.log
readonly unit=/etc/systemd/system/planasonix-agent.service
readonly script=/etc/init.d/planasonix-agent
readonly dropin=$unit.d/50-host.conf
readonly trial_unit=/run/systemd/system/planasonix-agent-trial.service
readonly path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
readonly seconds_to_connect=15

usage() {
    cat <<'USAGE'
Usage: install.sh [--token TOKEN | --token-file FILE] [--environment-file FILE]

Installs the Planasonix agent as a service, enrolls it and starts it. On a host that has it already, upgrades the
program and keeps identity and configuration.

  --token TOKEN      the enrollment token (other users of this host can read a command line: prefer the others)
  --token-file FILE  a file that holds it; - is standard input
  --environment-file FILE
                     a file of NAME=value lines, as env prints them; - is standard input. Of these it takes its own:
                     the token, PLANASONIX_CA_FILE, and the settings of a proxy. sudo keeps none of them, and writes
                     those that it is told to keep into its log: env | sudo ./install.sh --environment-file -
  --help             this text

Without either, the token is read from PLANASONIX_ENROLLMENT_TOKEN. A host that is enrolled needs none.
USAGE
}

# Text of others, such as a line of the configuration, must not act on root's terminal: ? stands for each control
# character, and for each that turns the direction of text (in UTF-8: C2 80-9F, D8 9C, E2 80 8E-8F and A8-AE, E2 81 A6-AF).
turning=$(printf 's/\302[\200-\237]/?/g;s/\330\234/?/g;s/\342\200[\216\217\250-\256]/?/g;s/\342\201[\246-\257]/?/g')
readonly turning
printable() { LC_ALL=C tr '\001-\011\013-\037\177' '?' | LC_ALL=C sed "$turning"; }
say() { printf '%s\n' "$*" | printable; }
warn() { printf 'install.sh: %s\n' "$*" | printable >&2; }
fail() { warn "$*"; exit 1; }
misused() { warn "$*"; usage >&2; exit 2; }

# From here on the token is in this shell alone: no program that it starts inherits it.
read_arguments() {
    token='' inherited=${PLANASONIX_ENROLLMENT_TOKEN-}
    unset PLANASONIX_ENROLLMENT_TOKEN
    while [ $# -gt 0 ]; do
        case $1 in
            --token | --token-file | --environment-file) [ $# -ge 2 ] || misused "$1 needs a value" ;;
        esac
        case $1 in
            --token) token=$2 && shift ;;
            --token=*) token=${1#*=} ;;
            --token-file) read_token "$2" && shift ;;
            --token-file=*) read_token "${1#*=}" ;;
            --environment-file) read_environment "$2" && shift ;;
            --environment-file=*) read_environment "${1#*=}" ;;
            -h | --help) usage && exit 0 ;;
            *) misused "unknown argument: $1" ;;
        esac
        shift
    done
    [ -n "$token" ] || token=$inherited
}

read_token() {
    if [ "$1" = - ]; then
        token=$(cat)
    else
        token=$(cat -- "$1") || fail "cannot read the token file $1"
    fi
    [ -n "$token" ] || fail "the token file $1 is empty"
}

read_environment() {
    if [ "$1" = - ]; then
        take_variables
    else
        [ -r "$1" ] || fail "cannot read the environment file $1"
        take_variables <"$1"
    fi
}

take_variables() {
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            PLANASONIX_ENROLLMENT_TOKEN=*) inherited=${line#*=} ;;
            PLANASONIX_CA_FILE=* | HTTPS_PROXY=* | https_proxy=* | HTTP_PROXY=* | http_proxy=*) export "${line?}" ;;
            ALL_PROXY=* | all_proxy=* | NO_PROXY=* | no_proxy=*) export "${line?}" ;;
        esac
    done
}

# Everything that can be refused is refused before anything is changed.
check_host() {
    [ "$(uname -s)" = Linux ] || fail "this bundle is for Linux, and this is $(uname -s)"
    [ "$(id -u)" -eq 0 ] || fail 'installing needs root: env | sudo ./install.sh --environment-file -'
    bundle=$(cd -- "$(dirname -- "$0")" && pwd)
    find_binary
    [ -f "$bundle/agent.conf" ] || fail 'the bundle lacks agent.conf; download it again'
    [ -z "${PLANASONIX_CA_FILE-}" ] || [ -r "$PLANASONIX_CA_FILE" ] ||
        fail "cannot read the file that PLANASONIX_CA_FILE names: $PLANASONIX_CA_FILE"
    # They belong to the service's user. Links in their place would lead root elsewhere.
    for place in "$state" "$runtime" "$logs" "$log"; do
        [ ! -L "$place" ] || fail "$place is a link, which this does not follow: move it away and run this again"
    done
    if [ -z "$token" ] && ! is_enrolled; then
        fail 'this host is not enrolled: set PLANASONIX_ENROLLMENT_TOKEN, or give --token-file FILE'
    fi
    check_places
    check_program
}

# Whether this host is enrolled, by the installed program, which the service's user runs. Where there is none yet, or
# one that does not know the question, an identity that is there will do; the program says later what it is worth.
is_enrolled() {
    answer=2
    if [ -x "$agent" ] && id -u "$user" >/dev/null 2>&1; then
        answer=0
        as_user "$agent" identity </dev/null >/dev/null 2>&1 || answer=$?
    fi
    if [ "$answer" -eq 2 ]; then
        [ -f "$state/identity.json" ]
    else
        [ "$answer" -eq 0 ]
    fi
}

find_binary() {
    machine=$(uname -m)
    case $machine in
        x86_64 | amd64) arch=x86_64 ;;
        aarch64 | arm64) arch=aarch64 ;;
        *) arch=$machine ;;
    esac
    binary=$bundle/bin/$arch/planasonix-agent
    if [ ! -f "$binary" ]; then
        there=$(cd "$bundle/bin" 2>/dev/null && echo *) || there=none
        fail "no agent for this machine ($machine) in the bundle; there is: $there"
    fi
}

# Where files are to be made or replaced, they can be.
check_places() {
    same "$binary" "$agent" || writable "$home"
    [ -f "$conf" ] || writable "${conf%/*}"
    [ -d "$state" ] || writable "$state"
    id -u "$user" >/dev/null 2>&1 || writable /etc
    if [ -d /run/systemd/system ]; then
        same "$bundle/planasonix-agent.service" "$unit" || writable "${unit%/*}"
    else
        same "$bundle/planasonix-agent.init" "$script" || writable "${script%/*}"
    fi
}

# existing PATH: the folder, or the nearest one above it that is there.
existing() {
    place=$1
    while [ ! -d "$place" ]; do
        place=${place%/*}
        place=${place:-/}
    done
}

# writable PATH: asks for a mode that the folder has, which fails like any change of it and changes no time of it.
writable() {
    existing "$1"
    chmod u+x "$place" || fail "$place cannot be changed (above): it has to be writable for the installation"
}

# The program is tried where it will run: a bundle may lie where nothing may be run (noexec).
check_program() {
    if same "$binary" "$agent" && [ -x "$agent" ]; then
        version=$("$agent" --version) || fail "$agent does not run (above)$(why_not "$home")"
        return 0
    fi
    existing "$home"
    trial=$(mktemp -d "$place/.planasonix-agent.XXXXXX")
    if cp "$binary" "$trial/agent" && chmod 755 "$trial/agent" && version=$("$trial/agent" --version); then
        rm -rf "$trial"
    else
        reason=$(why_not "$trial")
        rm -rf "$trial"
        fail "the agent in the bundle does not run below $place (above)$reason"
    fi
}

# why_not FOLDER: whether it is the folder, where a script of one line does not run either.
why_not() {
    probe=$(mktemp "$1/.probe.XXXXXX" 2>/dev/null) || return 0
    printf '#!/bin/sh\nexit 0\n' >"$probe"
    chmod 755 "$probe"
    if "$probe" 2>/dev/null; then
        printf ': it is not for this host (%s)' "$machine"
    else
        printf ': nothing may be run there (mounted noexec?), and the agent has to be'
    fi
    rm -f "$probe"
}

# The id of an agent, whole: agt_ and 26 characters of lower-case Crockford base 32.
is_agent_id() {
    digits=${1#agt_}
    [ "agt_$digits" = "$1" ] && [ "${#digits}" -eq 26 ] || return 1
    case $digits in
        *[!0123456789abcdefghjkmnpqrstvwxyz]*) return 1 ;;
    esac
}

# The tools that change users keep a copy of each file (`/etc/shadow-` …). One that was not there before is a trace.
changing_users() {
    new=
    for copy in /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow-; do
        [ -e "$copy" ] || new="$new $copy"
    done
    "$@"
    for copy in $new; do
        rm -f "$copy"
    done
}

add_user() {
    ! id -u "$user" >/dev/null 2>&1 || return 0
    shell=/bin/false
    for candidate in /usr/sbin/nologin /sbin/nologin; do
        [ ! -x "$candidate" ] || shell=$candidate
    done
    if command -v useradd >/dev/null; then
        group=--user-group
        ! grep -q "^$user:" /etc/group || group=--gid=$user
        changing_users useradd --system "$group" --no-create-home --home-dir /nonexistent --shell "$shell" "$user"
    else
        grep -q "^$user:" /etc/group || changing_users addgroup -S "$user"
        changing_users adduser -S -D -H -h /nonexistent -s "$shell" -G "$user" "$user"
    fi
    say "added the system user $user"
}

same() { [ -f "$2" ] && [ ! -L "$2" ] && [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]; }

# put SOURCE TARGET MODE: written beside the old file and renamed over it, so that there is always a whole one.
put() {
    if same "$1" "$2" && [ "$(stat -c %a:%u:%g "$2")" = "$3:0:0" ]; then
        return 0
    fi
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    chown 0:0 "$2.new"
    mv -f "$2.new" "$2"
    say "installed $2"
    changed=yes
}

# folder PATH MODE OWNER: a folder that is right already keeps its times.
folder() {
    [ ! -L "$1" ] || fail "$1 is a link, which this does not follow: move it away and run this again"
    if [ -d "$1" ] && [ "$(stat -c %a:%U "$1")" = "$2:$3" ]; then
        return 0
    fi
    install -d -m "$2" -o "$3" -g "$3" "$1"
}

put_files() {
    folder "$home" 755 root
    folder "${conf%/*}" 755 root
    folder "$state" 700 "$user"
    put_ca_file
    put_conf
    put "$binary" "$agent" 755
    put "$bundle/uninstall.sh" "$home/uninstall.sh" 755
    put_link
}

# For people at a terminal alone: where it cannot be made, nothing else is missing.
put_link() {
    [ "$(readlink "$link" 2>/dev/null || true)" != "$agent" ] || return 0
    if [ -e "$link" ] || [ -L "$link" ]; then
        warn "$link is there and is not ours: it stays. The command is $agent"
    elif ! { mkdir -p "${link%/*}" && ln -s "$agent" "$link"; }; then
        warn "cannot make $link (above). The command is $agent"
    fi
}

# The host's configuration is its operator's: a bundle brings the first one only. Authorities that were forgotten at
# the first run, which could not enroll then, are added.
put_conf() {
    if [ ! -f "$conf" ]; then
        cp "$bundle/agent.conf" "$conf.new"
        chmod 644 "$conf.new"
        keep_settings "$conf.new" HTTPS_PROXY HTTP_PROXY ALL_PROXY NO_PROXY PLANASONIX_CA_FILE
        mv -f "$conf.new" "$conf"
        say "installed $conf"
        changed=yes
        return 0
    fi
    if [ -n "${PLANASONIX_CA_FILE-}" ] && ! grep -q '^PLANASONIX_CA_FILE=' "$conf"; then
        cp -p "$conf" "$conf.new"
        keep_settings "$conf.new" PLANASONIX_CA_FILE
        mv -f "$conf.new" "$conf"
        changed=yes
    fi
    for name in PLANASONIX_API_HOST PLANASONIX_AGENT_ID; do
        ours=$(sed -n "s/^$name=//p" "$conf")
        theirs=$(sed -n "s/^$name=//p" "$bundle/agent.conf")
        [ "$ours" = "$theirs" ] || warn "kept $name=$ours in $conf (the bundle has $theirs)"
    done
}

# A copy of our own: the service sees neither a home folder nor anybody's temporary files.
put_ca_file() {
    [ -n "${PLANASONIX_CA_FILE-}" ] || return 0
    put "$PLANASONIX_CA_FILE" "$ca" 644
    export PLANASONIX_CA_FILE="$ca"
}

# setting NAME: of a proxy's variables, curl prefers the one in small letters.
setting() {
    case $1 in
        *_PROXY) printenv "$(echo "$1" | tr '[:upper:]' '[:lower:]')" | grep . || printenv "$1" || true ;;
        *) printenv "$1" || true ;;
    esac
}

# keep_settings DRAFT NAME…: who needs a proxy to fetch the bundle needs it to enroll, and so does the service.
keep_settings() {
    draft=$1
    shift
    for name in "$@"; do
        value=$(setting "$name")
        [ -n "$value" ] || continue
        ! grep -q "^$name=" "$draft" || continue
        # It may hold a password.
        chmod 640 "$draft"
        chgrp "$user" "$draft"
        printf '%s=%s\n' "$name" "$value" >>"$draft"
        say "kept $name in $conf"
    done
}

# as_user PROGRAM ARGUMENT…: as the service's user, without root's environment. In a session of its own: on root's
# terminal another process of that user could type for root.
as_user() {
    if setpriv --reuid="$user" --regid="$user" --init-groups true 2>/dev/null; then
        set -- setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs "$@"
    else
        # The command is constant: su hands the program and its arguments over as they are.
        # shellcheck disable=SC2016  # that shell expands them
        set -- su -s /bin/sh -c 'exec "$0" "$@"' -- "$user" "$@"
    fi
    (cd / && exec env -i PATH="$path" LANG=C.UTF-8 setsid "$@")
}

# printf is part of the shell: the token shows in no process list.
enroll() {
    enrolled=yes
    if [ -z "$token" ]; then
        is_enrolled || fail 'this host is not enrolled: set PLANASONIX_ENROLLMENT_TOKEN, or give --token-file FILE'
        return 0
    fi
    if ! printf '%s\n' "$token" | as_user "$agent" enroll --token-file -; then
        enrolled=no
        return 0
    fi
    name_agent
}

# A host that was registered anew is another agent than the one that its configuration names. The service's user wrote
# the identity, so its program reads it, and what that prints is an id or nothing.
name_agent() {
    named=$(sed -n 's/^PLANASONIX_AGENT_ID=//p' "$conf")
    is=$(as_user "$agent" identity </dev/null) || is=
    if ! is_agent_id "$is"; then
        warn "cannot read which agent this host is (planasonix-agent identity): $conf still names ${named:-none}"
        return 0
    fi
    if [ -z "$named" ] || [ "$named" = "$is" ]; then
        return 0
    fi
    cp -p "$conf" "$conf.new"
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            PLANASONIX_AGENT_ID=*) line=PLANASONIX_AGENT_ID=$is ;;
        esac
        printf '%s\n' "$line"
    done <"$conf" >"$conf.new"
    mv -f "$conf.new" "$conf"
    say "$conf names $is now"
    changed=yes
}

# An earlier run may have been interrupted between the new program and its start.
runs_the_old_program() {
    for exe in /proc/[0-9]*/exe; do
        [ "$(readlink "$exe" 2>/dev/null || true)" != "$agent (deleted)" ] || return 0
    done
    return 1
}

start_service() {
    ! runs_the_old_program || changed=yes
    if [ -d /run/systemd/system ]; then
        start_unit
    else
        start_script
    fi
}

# What an agent said that is about to end, or has ended, is no report of the one that starts.
forget_presence() {
    if [ "$changed" = yes ] || ! is_running; then
        # Members of the group write in this folder: its owner removes the file, or leaves it.
        as_user rm -f "$runtime/agent.json" </dev/null || true
    fi
}

is_running() {
    for exe in /proc/[0-9]*/exe; do
        [ "$(readlink "$exe" 2>/dev/null || true)" != "$agent" ] || return 0
    done
    return 1
}

start_unit() {
    systemctl enable --quiet planasonix-agent.service
    forget_presence
    action=start
    [ "$changed" = no ] || action=restart
    systemctl "$action" planasonix-agent.service || started=no
}

start_script() {
    forget_presence
    action=start
    [ "$changed" = no ] || action=restart
    "$script" "$action" || started=no
}

# Before the token is spent: what the service manager needs, and whether it can start the agent.
put_service() {
    if [ -d /run/systemd/system ]; then
        if ! same "$bundle/planasonix-agent.service" "$unit" ||
            ! systemctl is-active --quiet planasonix-agent.service; then
            fit_unit
        fi
        put "$bundle/planasonix-agent.service" "$unit" 644
        [ "$changed" = no ] || systemctl daemon-reload
    elif ! same "$bundle/planasonix-agent.init" "$script"; then
        [ -d "${script%/*}" ] || folder "${script%/*}" 755 root
        put "$bundle/planasonix-agent.init" "$script" 755
        # Without the script, the next run tries it again.
        start_at_boot || { rm -f "$script"; fail 'the service cannot be made to start at boot (above)'; }
    fi
}

# fit_unit: a host may be unable to give what the unit confines the agent with (no user namespaces, a container). What
# it cannot give is left out, by a file of its own beside the unit; all else stays.
fit_unit() {
    trap 'end_trial; exit 1' HUP INT TERM
    # What a kernel or a container may lack. The rest of the unit needs no help of theirs.
    all=$(sed -n '/^AmbientCapabilities=/,/^\[Install\]/s/^\([A-Z][A-Za-z]*\)=.*/\1/p' \
        "$bundle/planasonix-agent.service" | sort -u |
        grep -vxE 'AmbientCapabilities|CapabilityBoundingSet|LimitCORE|NoNewPrivileges|SystemCallErrorNumber')
    missing=
    if ! starts ''; then
        starts "$all" || cannot_start
        # One after the other is demanded again, and stays demanded if the program starts: they depend on each other.
        missing=$all
        for name in $all; do
            others=$(printf '%s\n' "$missing" | grep -vx "$name") || others=
            ! starts "$others" || missing=$others
        done
    fi
    end_trial
    put_dropin
}

end_trial() {
    systemctl reset-failed "${trial_unit##*/}" 2>/dev/null || true
    rm -f "$trial_unit"
    systemctl daemon-reload
    trap - HUP INT TERM
}

# starts NAME…: whether systemd starts the agent's program as the unit says, but for these settings. The folder of
# the runtimes is an agent's that may be running.
starts() {
    {
        sed -e '/^\[Install\]/,$d' -e '/^\(ExecStart\|After\|Wants\|Restart\|RestartSec\|Runtime[A-Za-z]*\|Type\|WatchdogSec\)=/d' \
            "$bundle/planasonix-agent.service"
        printf 'Type=oneshot\nStandardOutput=null\nTimeoutStartSec=30s\nExecStart=%s --version\n' "$agent"
        left_out "$1"
    } >"$trial_unit"
    systemctl daemon-reload
    systemctl start "${trial_unit##*/}" 2>/dev/null
}

# left_out NAMES: a line for each that takes it back.
left_out() {
    for taken in $1; do
        case $taken in
            DevicePolicy) say DevicePolicy=auto ;;
            ProtectProc) say ProtectProc=default ;;
            RestrictAddressFamilies | SystemCall*) say "$taken=" ;;
            *) say "$taken=no" ;;
        esac
    done
}

cannot_start() {
    systemctl status --no-pager --lines=5 "${trial_unit##*/}" >&2 || true
    end_trial
    fail "systemd cannot start $agent as the user $user (above). Put that right, then run this again: the token is unused"
}

put_dropin() {
    if [ -z "$missing" ]; then
        [ ! -f "$dropin" ] || { rm -f "$dropin"; changed=yes; }
        return 0
    fi
    writable "${dropin%/*}"
    draft=$(mktemp)
    {
        say '# Written by install.sh: this host cannot confine the agent with these. It tries them again when it is run'
        say '# with another unit, or while the service is not running.'
        say '[Service]'
        left_out "$missing"
    } >"$draft"
    [ -d "${dropin%/*}" ] || folder "${dropin%/*}" 755 root
    put "$draft" "$dropin" 644
    rm -f "$draft"
    warn "this host cannot give the service: $(printf '%s' "$missing" | tr '\n' ' '). It runs without (see $dropin)"
}

start_at_boot() {
    if command -v update-rc.d >/dev/null; then
        update-rc.d planasonix-agent defaults
    elif command -v rc-update >/dev/null; then
        rc-update add planasonix-agent default
    else
        warn "nothing here starts services at boot: have this host run '$script start'"
    fi
}

explain_start() {
    if [ -d /run/systemd/system ]; then
        systemctl status --no-pager --lines=10 planasonix-agent.service >&2 || true
        warn "installed and enrolled, but the service does not start (above; all of it: journalctl -u planasonix-agent)."
    else
        tail -n 10 "$log" >&2 || true
        warn "installed and enrolled, but the service does not start (above; all of it: $log)."
    fi
    warn 'Put right what it says, then run this again: it needs no token'
}

report() {
    waited=0
    until as_user "$agent" status </dev/null >/dev/null 2>&1 || [ "$waited" -ge "$seconds_to_connect" ]; do
        sleep 1
        waited=$((waited + 1))
    done
    if as_user "$agent" status </dev/null; then
        return 0
    fi
    if [ "$enrolled" = no ]; then
        warn "installed, but not enrolled (above). Put right what it says (settings: $conf), then run this again"
    elif [ "$started" = no ]; then
        explain_start
    else
        warn "installed, but not connected yet. The service goes on trying; 'sudo $agent diagnose' says why"
    fi
    exit 1
}

main() {
    read_arguments "$@"
    check_host
    changed=no
    started=yes
    say "installing $version"
    add_user
    put_files
    put_service
    enroll
    start_service
    report
}

main "$@"
