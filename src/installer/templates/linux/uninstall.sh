#!/bin/sh
# Removes the Planasonix agent from this host: service, program, configuration, identity, user and log.
set -eu

readonly user=planasonix-agent
readonly home=/opt/planasonix-agent
readonly agent=$home/planasonix-agent
readonly link=/usr/local/bin/planasonix-agent
readonly unit=/etc/systemd/system/planasonix-agent.service
readonly script=/etc/init.d/planasonix-agent

usage() {
    cat <<'USAGE'
Usage: uninstall.sh [--deregister [--force]]

Stops the Planasonix agent and removes it from this host.

  --deregister  also remove the agent from the control plane; if that fails, nothing is removed
  --force       remove it from this host although the control plane could not be told
  --help        this text
USAGE
}

# Text of others, such as a line of the configuration, must not act on root's terminal: ? stands for each control
# character, and for each that turns the direction of text (in UTF-8: C2 80-9F, D8 9C, E2 80 8E-8F and A8-AE, E2 81 A6-AF).
turning=$(printf 's/\302[\200-\237]/?/g;s/\330\234/?/g;s/\342\200[\216\217\250-\256]/?/g;s/\342\201[\246-\257]/?/g')
readonly turning
printable() { LC_ALL=C tr '\001-\011\013-\037\177' '?' | LC_ALL=C sed "$turning"; }
say() { printf '%s\n' "$*" | printable; }
warn() { printf 'uninstall.sh: %s\n' "$*" | printable >&2; }

read_arguments() {
    deregister=no
    force=no
    for argument in "$@"; do
        case $argument in
            --deregister) deregister=yes ;;
            --force) force=yes ;;
            -h | --help) usage && exit 0 ;;
            *) warn "unknown argument: $argument" && usage >&2 && exit 2 ;;
        esac
    done
}

has_unit() { [ -f "$unit" ] && [ -d /run/systemd/system ]; }

# What cannot be removed is said before anything is. The mode is one that the folder has: asking for it fails like any
# change of it.
check_places() {
    for thing in "$home" /etc/planasonix-agent /var/lib/planasonix-agent "$unit" "$script"; do
        [ -e "$thing" ] || continue
        chmod u+x "${thing%/*}" || { warn "$thing cannot be removed (above): nothing was"; exit 1; }
    done
}

stop_service() {
    if has_unit; then
        systemctl stop planasonix-agent.service
    elif [ -x "$script" ]; then
        "$script" stop
    fi
}

start_service() {
    if has_unit; then
        systemctl start planasonix-agent.service
    elif [ -x "$script" ]; then
        "$script" start
    fi
}

# The credential that could deregister the agent goes with its files: so first this, then those.
leave() {
    [ -x "$agent" ] || return 0
    if [ "$deregister" = no ]; then
        "$agent" uninstall || warn 'the agent could not tidy up after itself (above): its files are removed anyway'
        return 0
    fi
    if "$agent" uninstall --deregister; then
        return 0
    fi
    if [ "$force" = yes ]; then
        warn 'the control plane could not be told: delete the agent there as well'
        return 0
    fi
    start_service
    warn 'the agent could not be deregistered (above): nothing was removed. Try again later, or add --force'
    exit 1
}

remove_service() {
    if [ -f "$unit" ]; then
        ! has_unit || systemctl disable --quiet planasonix-agent.service
        rm -f "$unit"
        # What `systemctl edit` leaves.
        rm -rf "$unit.d"
        [ ! -d /run/systemd/system ] || systemctl daemon-reload
    fi
    if [ -f "$script" ]; then
        ! command -v rc-update >/dev/null || rc-update --quiet del planasonix-agent default || true
        rm -f "$script"
        ! command -v update-rc.d >/dev/null || update-rc.d planasonix-agent remove
    fi
}

# What outlived the service would keep its user from being removed.
end_processes() {
    uid=$(id -u "$user" 2>/dev/null) || return 0
    for status in /proc/[0-9]*/status; do
        while read -r key real _; do
            [ "$key" = Uid: ] || continue
            if [ "$real" = "$uid" ]; then
                number=${status#/proc/}
                kill -KILL "${number%/status}" 2>/dev/null || true
            fi
            break
        done 2>/dev/null <"$status" || true
    done
}

# remove_folder PATH: other accounts write in it. The agent's program follows no link, nor one that takes a folder's
# place while it works; not every rm keeps that promise.
remove_folder() {
    if [ -L "$1" ]; then
        rm -f "$1"
    elif ! "$agent" remove-folders "$1" 2>/dev/null; then
        # It does not run here: out of everybody's reach, then.
        [ -d "$1" ] || return 0
        aside=$(mktemp -d "${1%/*}/.planasonix-agent.XXXXXX")
        mv "$1" "$aside/folder"
        rm -rf "$aside"
    fi
}

remove_files() {
    [ "$(readlink "$link" || true)" != "$agent" ] || rm -f "$link" || warn "cannot remove $link (above)"
    for folder in /var/lib/planasonix-agent /run/planasonix-agent /var/log/planasonix-agent; do
        remove_folder "$folder"
    done
    rm -rf "$home" /etc/planasonix-agent
    rm -f /run/planasonix-agent.pid /var/log/planasonix-agent.log
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

remove_user() {
    id -u "$user" >/dev/null 2>&1 || return 0
    if command -v userdel >/dev/null; then
        changing_users userdel "$user"
    else
        changing_users deluser "$user"
    fi
    # A group with other members outlives its user.
    if grep -q "^$user:" /etc/group; then
        if command -v groupdel >/dev/null; then changing_users groupdel "$user"; else changing_users delgroup "$user"; fi
    fi
}

main() {
    read_arguments "$@"
    [ "$(id -u)" -eq 0 ] || { warn 'uninstalling needs root: run it with sudo'; exit 1; }
    check_places
    stop_service
    leave
    end_processes
    remove_service
    remove_files
    remove_user
    say 'the Planasonix agent is removed from this host'
}

# Read as a whole before it runs, for it removes itself.
main "$@"
