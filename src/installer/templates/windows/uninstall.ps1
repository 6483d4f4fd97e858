#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
Removes the Planasonix agent from this machine: service, program, configuration, identity and log.
.PARAMETER Deregister
Also remove the agent from the control plane. If that fails, nothing is removed.
.PARAMETER Force
Remove it from this machine although the control plane could not be told.
#>
[CmdletBinding()]
param(
    [switch] $Deregister,
    [switch] $Force
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$service = 'planasonix-agent'
# A 32-bit shell has another folder of this name.
$programs = Join-Path $(if ($env:ProgramW6432) { $env:ProgramW6432 } else { $env:ProgramFiles }) 'Planasonix Agent'
$agent = Join-Path $programs 'planasonix-agent.exe'
$data = Join-Path $env:ProgramData 'Planasonix Agent'

# Windows PowerShell takes what a program writes to standard error for an error, when run from afar.
function Invoke-Agent {
    $ErrorActionPreference = 'Continue'
    & $agent @args
}

# The credential that could deregister the agent goes with its files: so first this, then those.
function Invoke-Leave {
    if (-not (Test-Path -LiteralPath $agent)) { return }
    if (-not $Deregister) {
        Invoke-Agent uninstall | Out-Host
        if ($LASTEXITCODE -ne 0) {
            Write-Warning 'the agent could not tidy up after itself (above): its files are removed anyway'
        }
        return
    }
    Invoke-Agent uninstall --deregister | Out-Host
    if ($LASTEXITCODE -eq 0) { return }
    if ($Force) {
        Write-Warning 'the control plane could not be told: delete the agent there as well'
        return
    }
    if ($there) { Start-Service -Name $service }
    [Console]::Error.WriteLine(
        'uninstall.ps1: the agent could not be deregistered (above): nothing was removed. Try again later, or add -Force')
    exit 1
}

$there = Get-Service -Name $service -ErrorAction SilentlyContinue
if ($there) { Stop-Service -Name $service }
Invoke-Leave
if ($there) {
    # Remove-Service came after PowerShell 5.1.
    & sc.exe delete $service | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "sc.exe delete failed with $LASTEXITCODE" }
}
# Other accounts write in what the agent shares with them. The agent's program follows no link there, nor one that
# takes a folder's place while it works.
foreach ($name in 'state', 'runtime', 'logs') {
    $folder = Join-Path $data $name
    if ((Test-Path -LiteralPath $agent) -and (Test-Path -LiteralPath $folder)) {
        Invoke-Agent remove-folders $folder | Out-Host
    }
}
foreach ($folder in $programs, $data) {
    # The program stays locked for a moment after its end, and while a virus scanner reads it. This follows no link.
    for ($tried = 1; Test-Path -LiteralPath $folder; $tried++) {
        try {
            [IO.Directory]::Delete($folder, $true)
        } catch {
            if ($tried -ge 15) { throw }
            Start-Sleep -Seconds 1
        }
    }
}
Write-Output 'the Planasonix agent is removed from this machine'
